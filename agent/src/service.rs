//! Which targets are deployed as one: they share a service of one machine, and one reload is enough for all of them.

use std::collections::HashMap;

use deploy_core::{Recovery, Reload};

use crate::config::{ConfiguredTarget, Machine};

/// The targets of each service, as indices, in the order of the configuration.
pub(crate) fn groups(targets: &[&ConfiguredTarget]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut known: HashMap<(Option<&str>, Service), usize> = HashMap::new();
    for (index, target) in targets.iter().enumerate() {
        match service(target) {
            None => groups.push(vec![index]),
            Some(service) => {
                let machine = target.machine.as_ref().map(Machine::via);
                let group = *known.entry((machine, service)).or_insert_with(|| {
                    groups.push(Vec::new());
                    groups.len() - 1
                });
                groups[group].push(index);
            }
        }
    }
    groups
}

/// What makes two targets parts of one service.
#[derive(PartialEq, Eq, Hash)]
enum Service {
    /// The operator said so.
    Named(String),
    /// One kind, and the same reload.
    Reloaded { kind: String, by: String },
}

/// `None` for a target that shares nothing: an API, or files that are taken up without a word, or by a call of which nobody
/// can say whether two are the same.
fn service(target: &ConfiguredTarget) -> Option<Service> {
    if let Some(name) = &target.service {
        return Some(Service::Named(name.clone()));
    }
    let Recovery::Files(hooks) = target.target.recovery() else { return None };
    let reload = hooks.reload?;
    let is_call = |step: &&Reload| matches!(step, Reload::Call(_));
    // What `Debug` shows of all else is complete: command, environment and timeout, or signal and pid file.
    (!reload.steps().iter().any(is_call)).then(|| Service::Reloaded { kind: target.kind.clone(), by: format!("{reload:?}") })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use deploy_core::command::Command;
    use deploy_core::host::Signal;

    use super::*;
    use crate::fixtures::target;

    fn command(argument: &str) -> Option<Reload> {
        Some(Reload::Command(Command::new(["server", argument])))
    }

    fn grouped(targets: &[ConfiguredTarget]) -> Vec<Vec<usize>> {
        groups(&targets.iter().collect::<Vec<_>>())
    }

    #[test]
    fn targets_of_one_kind_with_the_same_reload_are_one_service() {
        let targets = ["reload", "other", "reload"].map(|argument| target("t", command(argument)));
        assert_eq!(grouped(&targets), [vec![0, 2], vec![1]]);
    }

    #[test]
    fn another_kind_is_another_service_unless_it_is_said() {
        let reload = || target("t", command("reload"));
        assert_eq!(grouped(&[reload(), reload().of_kind("b")]), [vec![0], vec![1]]);
        let said = [reload().in_service("s"), target("t", command("other")).of_kind("b").in_service("s"), reload()];
        assert_eq!(grouped(&said), [vec![0, 1], vec![2]]);
    }

    #[test]
    fn signals_differ_by_their_pid_file() {
        let signal = |file: &str| Some(Reload::Signal { signal: Signal::Hup, pid_file: PathBuf::from(file) });
        let targets = ["/1", "/2", "/1"].map(|file| target("t", signal(file)));
        assert_eq!(grouped(&targets), [vec![0, 2], vec![1]]);
    }

    #[test]
    fn services_of_two_machines_are_two_even_with_one_name() {
        let targets = [
            target("t", command("reload")),
            target("t", command("reload")).on("web1"),
            target("t", command("reload")).on("web1"),
        ];
        assert_eq!(grouped(&targets), [vec![0], vec![1, 2]]);
        assert_eq!(grouped(&targets.map(|target| target.in_service("s"))), [vec![0], vec![1, 2]]);
    }

    #[test]
    fn targets_that_need_no_reload_stand_alone() {
        let targets = [target("t", None), target("t", None)];
        assert_eq!(grouped(&targets), [vec![0], vec![1]]);
    }
}
