//! A plan as text that stays the same from run to run, to be compared with what it should be.

use std::fmt::Write as _;

use deploy_core::{Content, Plan, Reload};

/// A plan, a line for each thing in it: files with role, owner, group and mode, then the commands and the endpoints.
///
/// Contents are left out: they are certificates and keys. Use it in a test beside `prepare`:
///
/// ```
/// use deploy_core::{Plan, PlanFile, Role};
///
/// let plan = Plan::new("front").with_file(PlanFile::new("/etc/tls/www.crt", Role::Fullchain, b"...".to_vec()));
/// assert_eq!(deploy_testkit::plan_text(&plan), "front, replace, 3 backups\n/etc/tls/www.crt: fullchain\nverify: NotConfigured\n");
/// ```
#[must_use]
pub fn plan_text(plan: &Plan) -> String {
    let mut text = String::new();
    let layout =
        plan.layout.directory().map_or("replace".to_owned(), |directory| format!("generations in {}", directory.display()));
    line(&mut text, format_args!("{}, {layout}, {} backups", plan.name, plan.backups));
    for file in &plan.files {
        let role = format!("{:?}", file.role).to_lowercase();
        let absent = if matches!(file.content, Content::Absent) { ", removed" } else { "" };
        let owner = file.owner.as_ref().map(|owner| format!(", owner {owner}")).unwrap_or_default();
        let group = file.group.as_ref().map(|group| format!(", group {group}")).unwrap_or_default();
        let mode = file.mode.map(|mode| format!(", mode {mode}")).unwrap_or_default();
        line(&mut text, format_args!("{}: {role}{absent}{owner}{group}{mode}", file.path.display()));
    }
    let hooks = &plan.hooks;
    if let Some(validate) = &hooks.validate {
        let minimal = if validate.minimal.is_some() { ", or a minimal configuration" } else { "" };
        line(&mut text, format_args!("validate: {}{minimal}", validate.command.display()));
    }
    for step in hooks.reload.as_ref().map(Reload::steps).unwrap_or_default() {
        match step {
            Reload::Command(command) => line(&mut text, format_args!("reload: {}", command.display())),
            Reload::Signal { signal, pid_file } => line(&mut text, format_args!("reload: {signal:?} to {}", pid_file.display())),
            reload => line(&mut text, format_args!("reload: {reload:?}")),
        }
    }
    if let Some(restart) = &hooks.restart {
        line(&mut text, format_args!("restart: {}", restart.display()));
    }
    match &hooks.verify {
        deploy_core::Verify::Endpoints { endpoints, timeout } => {
            for endpoint in endpoints {
                line(&mut text, format_args!("verify: {endpoint}, within {timeout:?}"));
            }
        }
        verify => line(&mut text, format_args!("verify: {verify:?}")),
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _infallible = writeln!(text, "{line}");
}
