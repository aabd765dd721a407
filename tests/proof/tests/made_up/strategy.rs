//! How cases are made up.

use deploy_core::{LinkPolicy, Role};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::acl::Named;
use super::case::{Before, Bytes, Case, DIRECTORIES, Name, Owner, Planned, Previous};
use super::world::material;

/// Any case.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    let materials = 0..material().len();
    (roles().prop_flat_map(files), links(), owner(), 0_usize..5, materials.clone(), materials)
        .prop_map(|(files, links, defaults, backups, new, old)| Case { files, links, defaults, backups, new, old })
}

/// One without links, for plays of several steps.
pub(crate) fn stage() -> impl Strategy<Value = Case> {
    let plain = |mut case: Case| {
        for file in &mut case.files {
            if let Before::Link { behind, .. } = &file.before {
                file.before = behind.clone().map_or(Before::Absent, Before::File);
            }
        }
        case
    };
    case().prop_map(plain)
}

/// What the files are for: a certificate in one of the usual forms, other files, or both.
fn roles() -> impl Strategy<Value = Vec<Role>> {
    let certificate = prop_oneof![
        4 => Just(vec![Role::Fullchain, Role::Key]),
        2 => Just(vec![Role::Leaf, Role::Chain, Role::Key]),
        2 => Just(vec![Role::Combined]),
        1 => Just(vec![Role::Chain, Role::Fullchain, Role::Key, Role::Combined]),
        1 => Just(Vec::new()),
    ];
    (certificate, 0_usize..3).prop_flat_map(|(mut roles, others)| {
        let others = if roles.is_empty() { others + 1 } else { others.min(5 - roles.len()) };
        roles.extend(std::iter::repeat_n(Role::Opaque, others));
        Just(roles).prop_shuffle()
    })
}

fn files(roles: Vec<Role>) -> impl Strategy<Value = Vec<Planned>> {
    roles.into_iter().enumerate().map(|(index, role)| file(index, role)).collect::<Vec<_>>()
}

fn file(index: usize, role: Role) -> impl Strategy<Value = Planned> {
    (0..DIRECTORIES.len(), name(index), owner(), before(), vec(any::<u8>(), 1..40))
        .prop_map(move |(directory, name, owner, before, opaque)| Planned { role, directory, name, owner, before, opaque })
}

/// Names that are ordinary, and names that nobody should use and somebody does; each ends with the number of the file.
fn name(index: usize) -> impl Strategy<Value = Name> {
    let start = prop_oneof![
        4 => Just(b"www-".to_vec()),
        1 => Just(b"\xff\xfe\x80".to_vec()),
        1 => Just(b"a\nb\r\t\x1b[31m".to_vec()),
        1 => Just(vec![b'x'; 254]),
        1 => Just(b"-rf ' \" \\ $(id) {staged:0} ".to_vec()),
        1 => Just(b".hidden".to_vec()),
        1 => Just("schl\u{fc}ssel\u{2028}".as_bytes().to_vec()),
    ];
    start.prop_map(move |mut name| {
        name.extend(index.to_string().bytes());
        Name(name)
    })
}

fn owner() -> impl Strategy<Value = Owner> {
    let id = || option::weighted(0.3, prop_oneof![Just(0_u32), Just(12), Just(34), Just(4242)]);
    (id(), id(), option::weighted(0.4, mode())).prop_map(|(uid, gid, mode)| Owner { uid, gid, mode })
}

fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0o600_u32), Just(0o640), Just(0o644), Just(0o400), Just(0o000), Just(0o660), Just(0o755)]
}

fn links() -> impl Strategy<Value = LinkPolicy> {
    prop_oneof![3 => Just(LinkPolicy::Follow), 1 => Just(LinkPolicy::Refuse), 2 => Just(LinkPolicy::Replace)]
}

fn before() -> impl Strategy<Value = Before> {
    let link = (1_usize..4, 0..DIRECTORIES.len(), option::weighted(0.85, previous()))
        .prop_map(|(hops, directory, behind)| Before::Link { hops, directory, behind });
    prop_oneof![2 => Just(Before::Absent), 5 => previous().prop_map(Before::File), 1 => link]
}

fn previous() -> impl Strategy<Value = Previous> {
    let bytes = prop_oneof![
        2 => Just(Bytes::Same),
        3 => Just(Bytes::Old),
        1 => vec(any::<u8>(), 0..60).prop_map(Bytes::Garbage),
    ];
    let id = || prop_oneof![3 => Just(0_u32), 1 => Just(12), 1 => Just(34)];
    let attribute = ("user\\.[a-z]{1,8}", vec(any::<u8>(), 0..20));
    let named = (prop_oneof![Just(7_u32), Just(33)], 0_u16..8).prop_map(|(uid, permissions)| Named { uid, permissions });
    (bytes, id(), id(), mode(), vec(attribute, 0..3), option::weighted(0.3, named))
        .prop_map(|(bytes, uid, gid, mode, attributes, named)| Previous { bytes, uid, gid, mode, attributes, named })
}
