//! The documents as text for people.

use anstyle::Style;
use deploy_core::Outcome;

use super::json::{
    CheckConfig, ConnectorEntry, Degradation, Deploy, Discover, Doctor, EndpointState, FileNumbers, Plan, PlannedFile, Recover,
    Status, TargetError, TargetPlan, TargetReport, TargetState, Verify,
};
use super::table::{Cell, table};
use super::{BAD, CAUTION, GOOD, HEADING, PLAIN, clean, styled};
use crate::failure::Failure;

/// The result of `deploy` and `rollback`: a table, then what there is to say about each target.
pub(crate) fn deploy(document: &Deploy) -> String {
    let rows: Vec<_> = document.targets.iter().map(deploy_row).collect();
    let mut text = table(["TARGET", "KIND", "OUTCOME", "LIVE", "CHECKED", "SERVED", "ENDS", "TOOK"], &rows);
    for target in &document.targets {
        let mut notes = Notes::new(&target.target, &format!("{} at {}", target.outcome, target.stage));
        notes.common(&target.degraded, &target.warnings);
        if let Some(error) = &target.error {
            notes.error(error);
            notes.line(PLAIN, "live now", live(target.live));
            notes.next(error);
        }
        text.push_str(&notes.end());
    }
    text
}

/// What `deploy` would do.
pub(crate) fn plan(document: &Plan) -> String {
    document.targets.iter().map(plan_target).collect::<Vec<_>>().join("\n")
}

/// What the endpoints serve.
pub(crate) fn verify(document: &Verify) -> String {
    let rows: Vec<_> = document
        .targets
        .iter()
        .map(|target| {
            let style = match target.result {
                "ok" => GOOD,
                "not_configured" => CAUTION,
                _ => BAD,
            };
            [
                target.target.as_str().into(),
                target.kind.as_str().into(),
                Cell::new(target.result, style),
                short(target.wanted.as_deref()).into(),
            ]
        })
        .collect();
    let mut text = table(["TARGET", "KIND", "RESULT", "WANTED"], &rows);
    for target in &document.targets {
        let mut notes = Notes::new(&target.target, target.result);
        notes.endpoints(target.endpoints.iter().filter(|endpoint| !endpoint.matches));
        if target.result == "not_configured" {
            notes.line(PLAIN, "next", "add `verify = [{ connect = \"HOST:PORT\" }]` to the target, so that somebody can look");
        }
        notes.whole(target.error.as_ref());
        text.push_str(&notes.end());
    }
    text
}

/// Where the targets stand.
pub(crate) fn status(document: &Status) -> String {
    let rows: Vec<_> = document
        .targets
        .iter()
        .map(|target| {
            let days = target.days_left.map_or_else(|| "-".to_owned(), |days| days.to_string());
            [
                target.target.as_str().into(),
                target.kind.as_str().into(),
                Cell::new(days, if target.days_left.is_none_or(|days| days < 0) { BAD } else { PLAIN }),
                date(target.not_after.as_deref()).into(),
                short(target.on_disk.as_deref()).into(),
                served(target),
                Cell::new(if target.owed.is_some() { "yes" } else { "-" }, if target.owed.is_some() { CAUTION } else { PLAIN }),
                Cell::from(if target.hold.is_some() { "yes" } else { "-" }),
            ]
        })
        .collect();
    let mut text = table(["TARGET", "KIND", "DAYS", "ENDS", "ON DISK", "SERVED", "OWED", "HOLD"], &rows);
    for target in &document.targets {
        let mut notes = Notes::new(&target.target, "");
        if target.on_disk.is_some() && target.wanted.is_some() && target.on_disk != target.wanted {
            notes.line(PLAIN, "wanted", &format!("{}: run `certdeploy deploy`", short(target.wanted.as_deref())));
        }
        if let Some(owed) = &target.owed {
            notes.line(CAUTION, "owed", owed);
        }
        if let Some(hold) = &target.hold {
            notes.line(
                PLAIN,
                "hold",
                &format!("was rolled back from {}; a new certificate or --force ends it", short(Some(hold))),
            );
        }
        notes.endpoints(target.served.iter().filter(|endpoint| !endpoint.matches));
        for set in &target.sets {
            notes.line(
                PLAIN,
                "can go back to",
                &format!("{} ({}, until {})", set.id, short(set.fingerprint.as_deref()), set.created),
            );
        }
        notes.whole(target.error.as_ref());
        text.push_str(&notes.end());
    }
    text
}

/// What recovery found and did.
pub(crate) fn recover(document: &Recover) -> String {
    if document.recovered.is_empty() {
        return "nothing to recover\n".to_owned();
    }
    let mut text = String::new();
    for recovery in &document.recovered {
        let mut notes = Notes::new(&recovery.targets.join(", "), &format!("deployment {}", recovery.id));
        notes.line(PLAIN, "done", &recovery.action);
        if let Some(error) = &recovery.error {
            notes.error(error);
        }
        notes.line(PLAIN, "live now", live(recovery.live));
        if recovery.owed {
            notes.line(CAUTION, "owed", "a reload or verification; the next `certdeploy deploy` pays it");
        }
        recovery.error.as_ref().inspect(|error| notes.next(error));
        text.push_str(&notes.end());
    }
    text
}

/// What was looked at, and what to do.
pub(crate) fn doctor(document: &Doctor) -> String {
    let mut text = String::new();
    for finding in &document.findings {
        let style = match finding.level {
            "ok" => GOOD,
            "warn" => CAUTION,
            _ => BAD,
        };
        text.push_str(&format!(
            "{} {}: {}\n",
            styled(style, &format!("{:4}", finding.level)),
            finding.check,
            clean(&finding.message)
        ));
        if let Some(advice) = &finding.advice {
            text.push_str(&format!("     next: {advice}\n"));
        }
    }
    text
}

/// Whether the configuration is right.
pub(crate) fn check_config(document: &CheckConfig) -> String {
    let rows: Vec<[Cell; 4]> = document
        .targets
        .iter()
        .map(|target| {
            [&target.target, &target.kind, &target.certificate, &target.service.to_string()].map(|text| text.as_str().into())
        })
        .collect();
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    format!(
        "{}{}: {}, {}, {}\n",
        table(["TARGET", "KIND", "CERTIFICATE", "SERVICE"], &rows),
        styled(GOOD, "ok"),
        count(document.files.len(), "file"),
        count(document.certificates.len(), "certificate"),
        count(document.targets.len(), "target")
    )
}

/// What is served today, as a part of a configuration.
pub(crate) fn discover(document: &Discover) -> String {
    let found = document.found.iter().map(|found| found.toml.as_str()).collect::<Vec<_>>().join("\n");
    if found.is_empty() { "# It serves no certificate from a file.\n".to_owned() } else { found }
}

/// The kinds, and what each can do.
pub(crate) fn connectors(entries: &[ConnectorEntry]) -> String {
    let yes = |can: bool| if can { "yes" } else { "-" };
    let rows: Vec<[Cell; 8]> = entries
        .iter()
        .map(|entry| {
            let can =
                [entry.staged_validation, entry.hot_update, entry.dry_run, entry.verification, entry.rollback, entry.inventory];
            let [staged, hot, dry, verification, rollback, inventory] = can.map(yes);
            [&entry.kind, staged, hot, dry, verification, rollback, inventory, &entry.summary].map(Cell::from)
        })
        .collect();
    table(["KIND", "STAGED VALIDATION", "HOT UPDATE", "DRY RUN", "VERIFICATION", "ROLLBACK", "INVENTORY", "SUMMARY"], &rows)
}

/// Why nothing was done.
pub(crate) fn failure(failure: &Failure) -> String {
    let lines: Vec<String> = failure.message().lines().map(|line| format!("{} {}", styled(BAD, "error:"), clean(line))).collect();
    format!("{}\nnext: {}", lines.join("\n"), failure.next_step())
}

/// The colour of an outcome.
pub(crate) fn outcome_style(outcome: Outcome) -> Style {
    style_of(outcome.name())
}

/// Milliseconds for people.
pub(crate) fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1000 => format!("{milliseconds} ms"),
        1000..60_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1000),
    }
}

fn style_of(outcome: &str) -> Style {
    match outcome {
        "changed" | "repaired" | "unchanged" => GOOD,
        "interrupted" | "locked" | "unverified" => CAUTION,
        _ => BAD,
    }
}

fn deploy_row(target: &TargetReport) -> [Cell; 8] {
    [
        target.target.as_str().into(),
        target.kind.as_str().into(),
        Cell::new(target.outcome, style_of(target.outcome)),
        target.live.into(),
        target.validated.as_str().into(),
        short(target.fingerprint.served.as_deref()).into(),
        date(target.not_after.as_deref()).into(),
        duration(target.duration_ms).into(),
    ]
}

fn plan_target(target: &TargetPlan) -> String {
    let (style, what) = match (&target.error, target.state.as_str()) {
        (Some(_), _) => (BAD, "would be refused"),
        (None, "unchanged") => (GOOD, "nothing to do"),
        (None, "owed") => (CAUTION, "a reload or verification is owed"),
        (None, "drift") => (CAUTION, "owner, mode or attributes would be repaired"),
        (None, _) => (CAUTION, "would change"),
    };
    let mut notes = Notes::new(&target.target, what);
    notes.style = style;
    notes.always = true;
    for file in &target.files {
        notes.block(&planned_file(file));
    }
    if target.error.is_none() {
        target.commands.iter().for_each(|command| notes.line(PLAIN, "run", command));
    }
    if target.state != "unchanged" || target.error.is_some() {
        notes.line(PLAIN, "checked", &format!("up to {}", target.validated));
        let (wanted, served) = (&target.fingerprint.wanted, &target.fingerprint.served);
        notes.line(
            PLAIN,
            "certificate",
            &format!("{} -> {}, ends {}", short(served.as_deref()), short(wanted.as_deref()), date(target.not_after.as_deref())),
        );
    }
    if let Some(pending) = &target.pending_recovery {
        notes.line(CAUTION, "first", pending);
    }
    notes.common(&target.degraded, &target.warnings);
    notes.whole(target.error.as_ref());
    notes.end().trim_start_matches('\n').to_owned()
}

/// One file as lines of a diff.
fn planned_file(file: &PlannedFile) -> String {
    let (sign, style) = match file.action.as_str() {
        "create" => ("+", GOOD),
        "remove" => ("-", BAD),
        "keep" => ("=", PLAIN),
        _ => ("~", CAUTION),
    };
    let real = file.real_path.as_ref().map(|real| format!(" -> {real}")).unwrap_or_default();
    let mut text = styled(style, &format!("{sign} {:7} {}{}", file.action, clean(&file.path), clean(&real)));
    let mut differ = |what: &str, of: fn(&FileNumbers) -> String| {
        let (before, after) = (file.before.as_ref().map(of), file.after.as_ref().map(of));
        if before == after {
            return;
        }
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        text.push_str(&format!("\n    {what}: {} -> {}", or_none(before), or_none(after)));
    };
    differ("sha256", |numbers| numbers.sha256.chars().take(12).collect());
    differ("size", |numbers| numbers.size.to_string());
    differ("owner", |numbers| format!("{}:{}", numbers.uid, numbers.gid));
    differ("mode", |numbers| numbers.mode.clone());
    text
}

fn served(target: &TargetState) -> Cell {
    match target.served.as_slice() {
        [] => "not asked".into(),
        all if all.iter().all(|endpoint| endpoint.matches) => Cell::new("as wanted", GOOD),
        all => Cell::new(format!("{} of {} wrong", all.iter().filter(|endpoint| !endpoint.matches).count(), all.len()), BAD),
    }
}

fn live(live: &str) -> &'static str {
    match live {
        "applied" => "the new certificate",
        "rolled_back" => "the old certificate, put back",
        "unchanged" => "what was there before; nothing was touched",
        _ => "unknown: look at the target",
    }
}

/// Enough of a fingerprint to tell two apart.
fn short(fingerprint: Option<&str>) -> String {
    fingerprint.map_or_else(|| "-".to_owned(), |fingerprint| fingerprint.chars().take(12).collect())
}

fn date(time: Option<&str>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.chars().take(10).collect())
}

/// What there is to say about one target, under its name.
struct Notes {
    name: String,
    title: String,
    style: Style,
    body: String,
    /// Say the name even if there is nothing below it.
    always: bool,
}

impl Notes {
    fn new(name: &str, title: &str) -> Self {
        Self { name: name.to_owned(), title: title.to_owned(), style: PLAIN, body: String::new(), always: false }
    }

    /// `label: words`; further lines of the words stand below the first.
    fn line(&mut self, style: Style, label: &str, words: &str) {
        self.block(&format!("{}: {}", styled(style, label), clean(words).replace('\n', "\n    ")));
    }

    fn block(&mut self, text: &str) {
        self.body.push_str(&format!("  {}\n", text.replace('\n', "\n  ")));
    }

    fn common(&mut self, degraded: &[Degradation], warnings: &[String]) {
        degraded
            .iter()
            .for_each(|degraded| self.line(CAUTION, "not checked or not done", &format!("{}: {}", degraded.what, degraded.why)));
        warnings.iter().for_each(|warning| self.line(CAUTION, "warning", warning));
    }

    fn endpoints<'a>(&mut self, endpoints: impl Iterator<Item = &'a EndpointState>) {
        for endpoint in endpoints {
            let problem = endpoint.problem.clone().unwrap_or_else(|| "another certificate".to_owned());
            self.line(BAD, &endpoint.endpoint, &format!("{problem} (serves {})", short(endpoint.served.as_deref())));
        }
    }

    /// What failed, and each cause.
    fn error(&mut self, error: &TargetError) {
        let mut chain = error.chain.iter();
        self.line(BAD, "failed", chain.next().unwrap_or(&error.message));
        chain.for_each(|cause| self.line(PLAIN, "because", cause));
    }

    fn next(&mut self, error: &TargetError) {
        match (&error.next_step, error.retryable) {
            (Some(next), _) => self.line(PLAIN, "next", next),
            (None, true) => self.line(PLAIN, "next", "run the same again later"),
            (None, false) => {}
        }
    }

    fn whole(&mut self, error: Option<&TargetError>) {
        if let Some(error) = error {
            self.error(error);
            self.next(error);
        }
    }

    /// The whole, with an empty line before it; nothing if there is nothing to say.
    fn end(self) -> String {
        if self.body.is_empty() && !self.always {
            return String::new();
        }
        let title = if self.title.is_empty() { String::new() } else { format!(": {}", styled(self.style, &self.title)) };
        format!("\n{}{title}\n{}", styled(HEADING, &self.name), self.body)
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
