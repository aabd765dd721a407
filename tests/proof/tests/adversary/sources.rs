//! A certificate's source that means harm costs neither memory nor time, and is refused by name.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use deploy_e2e::Run;
use deploy_e2e::system::proc_file;
use deploy_proof::{Site, Tally};
use deploy_testkit::{Authority, Issued};

/// What a source may cost beyond a good one: a file is read up to 1 MiB, a few times over.
const MEMORY: u64 = 16 << 10;
const TIME: Duration = Duration::from_secs(10);

/// What it is, how it is put in the place of a file, what the error says of it.
type Case = (&'static str, fn(&Path, &Issued), &'static str);

const CASES: [Case; 13] = [
    ("gigabytes", |path, _| std::fs::File::create(path).unwrap().set_len(64 << 30).unwrap(), "longer than 1048576 bytes"),
    (
        "just too long",
        |path, _| std::fs::File::create(path).unwrap().set_len((1 << 20) + 1).unwrap(),
        "longer than 1048576 bytes",
    ),
    ("zeros", |path, _| std::fs::File::create(path).unwrap().set_len(1 << 20).unwrap(), "cannot be used"),
    ("one endless line", |path, _| std::fs::write(path, "A".repeat(1 << 20)).unwrap(), "cannot be used"),
    ("a million lines", |path, _| std::fs::write(path, "\n".repeat(1 << 20)).unwrap(), "empty"),
    ("a thousand certificates", |path, issued| std::fs::write(path, issued.leaf_pem.repeat(1000)).unwrap(), "more than 64"),
    (
        "a deep chain",
        |path, issued| {
            let authorities: String = (0..63).map(|_| Authority::new().intermediate_pem()).collect();
            std::fs::write(path, issued.leaf_pem.clone() + &authorities).unwrap();
        },
        "cannot be used",
    ),
    ("a pipe", |path, _| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(), "is a FIFO"),
    ("a device", |path, _| symlink("/dev/zero", path).unwrap(), "is a device"),
    ("a directory", |path, _| std::fs::create_dir(path).unwrap(), "is a directory"),
    ("a socket", |path, _| drop(UnixListener::bind(path).unwrap()), "is a socket"),
    ("a link to itself", |path, _| symlink(path, path).unwrap(), "symbolic links"),
    ("a file of the system", |path, _| symlink("/proc/self/mem", path).unwrap(), "cannot be"),
];

/// A run, with the most memory that it ever had, in KiB.
fn measured(site: &Site) -> (Run, u64, Duration) {
    let started = Instant::now();
    let mut running = site.program.start(&["deploy", "--json"]);
    let mut most = 0;
    while running.is_running() {
        let status = proc_file(running.pid(), "status");
        let now = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        most = most.max(now.unwrap_or_default());
        std::thread::sleep(Duration::from_micros(200));
    }
    (running.wait(), most, started.elapsed())
}

#[test]
fn a_hostile_source_is_bounded_and_refused() {
    let mut tally = Tally::new("adversary/sources");
    let (site, _) = Site::serving();
    let issued = site.renew();
    let (run, usual, _) = measured(&site);
    run.expect(0, "changed");
    assert!(usual > 1 << 10, "{usual} KiB");
    for (name, put, words) in CASES {
        for file in ["fullchain.pem", "privkey.pem"] {
            let path = site.path("source").join(file);
            site.put(&issued);
            std::fs::remove_file(&path).unwrap();
            put(&path, &issued);
            let (run, memory, time) = measured(&site);
            tally.add("attacks", 1);
            refused(&mut tally, &format!("{name} as {file}"), &run, words);
            tally.expect(memory < usual + MEMORY, || format!("{name} as {file}: {memory} KiB, usually {usual} KiB"));
            tally.expect(time < TIME, || format!("{name} as {file}: {time:?}"));
            if path.is_dir() { std::fs::remove_dir(&path) } else { std::fs::remove_file(&path) }.unwrap();
        }
    }
    site.put(&issued);
    changing(&mut tally, &site, usual);
    tally.finish();
}

fn refused(tally: &mut Tally, name: &str, run: &Run, words: &str) {
    let error = &run.only()["error"];
    let (message, step) = (error["message"].to_string(), error["next_step"].as_str().unwrap_or_default());
    let said = message.contains("source/") && message.contains(words) && !step.is_empty();
    tally.expect(run.code == 3 && error["kind"] == "material_rejected" && said, || format!("{name}: {run:#?}"));
}

/// A file that grows, and one that is another every time: a good pair or a refusal, never a mixture.
fn changing(tally: &mut Tally, site: &Site, usual: u64) {
    let pairs = [site.issue(), site.issue()];
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                pairs.iter().for_each(|pair| site.put(pair));
                let mut file = std::fs::OpenOptions::new().append(true).open(site.path("source/fullchain.pem")).unwrap();
                (0..32).for_each(|_| file.write_all(&[b'\n'; 512]).unwrap());
            }
        });
        for _ in 0..4 {
            let (run, memory, time) = measured(site);
            tally.add("attacks", 1);
            let key = site.live()[2].as_ref().map(|file| file.bytes.clone()).unwrap_or_default();
            let served = site.served();
            let whole = pairs.iter().any(|pair| served.as_ref() == Some(&pair.fingerprint) && key == pair.key_pem.as_bytes());
            tally.expect([0, 3].contains(&run.code), || format!("a file that changes: {run:#?}"));
            tally.expect(run.code != 0 || whole, || "a file that changes: a mixture is live".to_owned());
            tally.expect(memory < usual + MEMORY && time < TIME, || format!("a file that changes: {memory} KiB, {time:?}"));
        }
        over.store(true, Ordering::Relaxed);
    });
}
