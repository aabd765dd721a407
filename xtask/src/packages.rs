//! Debian packages: which are missing, and installing them.

use std::process::{Command, Stdio};

use crate::{Outcome, shell};

/// A Debian package and a program, or a file by its whole path, by which one sees that it, or another package like it, is there.
pub(crate) type Package = (&'static str, &'static str);

/// What the tests start.
pub(crate) const FOR_TESTS: &[Package] = &[
    ("acl", "setfacl"),
    ("apache2", "apache2"),
    ("attr", "setfattr"),
    ("busybox", "busybox"),
    ("caddy", "caddy"),
    ("curl", "curl"),
    ("dovecot-imapd", "/usr/lib/dovecot/imap"),
    ("dovecot-managesieved", "/usr/lib/dovecot/managesieve"),
    ("dovecot-pop3d", "/usr/lib/dovecot/pop3"),
    ("e2fsprogs", "mkfs.ext4"),
    ("git", "git"),
    ("haproxy", "haproxy"),
    ("iproute2", "ip"),
    ("jq", "jq"),
    ("lighttpd", "lighttpd"),
    ("lighttpd-mod-openssl", "/usr/lib/lighttpd/mod_openssl.so"),
    ("mosquitto", "mosquitto"),
    ("mount", "mount"),
    ("nginx-light", "nginx"),
    ("openssh-server", "sshd"),
    ("openssl", "openssl"),
    ("postfix", "postfix"),
    ("procps", "ps"),
    ("python3", "python3"),
    ("python3-venv", "/usr/share/doc/python3-venv/copyright"),
    ("strace", "strace"),
    ("stunnel4", "stunnel4"),
    ("sudo", "sudo"),
    ("tcsh", "/bin/csh"),
    ("util-linux", "unshare"),
];

/// What the tests with slow or large servers start besides.
pub(crate) const FOR_ALL_SERVERS: &[Package] = &[
    ("curl", "curl"),
    ("ldap-utils", "ldapmodify"),
    ("mariadb-server", "mariadbd"),
    ("openjdk-17-jdk-headless", "javac"),
    ("postgresql-15", "/usr/lib/postgresql/15/bin/postgres"),
    ("proftpd-core", "proftpd"),
    ("proftpd-mod-crypto", "/usr/lib/proftpd/mod_tls.so"),
    ("rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server"),
    ("redis-server", "redis-server"),
    ("slapd", "slapd"),
    ("squid-openssl", "/usr/share/doc/squid-openssl/copyright"),
    ("tomcat10", "/usr/share/tomcat10/bin/catalina.sh"),
    ("tomcat10-admin", "/usr/share/tomcat10-admin/manager/WEB-INF/web.xml"),
];

/// What the proof on real file systems starts.
pub(crate) const FOR_DISK: &[Package] = &[
    ("btrfs-progs", "mkfs.btrfs"),
    ("e2fsprogs", "mkfs.ext4"),
    ("mount", "mount"),
    ("strace", "strace"),
    ("xfsprogs", "mkfs.xfs"),
];

/// Installs what is missing. Who is not root gets the line that root has to type, as an error.
pub(crate) fn ensure(packages: &[Package]) -> Outcome {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if shell::find_program("apt-get").is_none() {
        return Err(format!("these programs' Debian packages are missing, and there is no apt-get here: {}", missing.join(" ")));
    }
    if !shell::is_root() {
        return Err(format!("Debian packages are missing; as root, run:\n    {line}"));
    }
    println!("{line}");
    if install(&missing).is_err() {
        // A fresh machine has no package lists yet.
        shell::run(Command::new("apt-get").args(["update", "-q"]).stdin(Stdio::null()))?;
        install(&missing)?;
    }
    let still = self::missing(packages);
    if still.is_empty() { Ok(()) } else { Err(format!("still missing after the installation: {}", still.join(" "))) }
}

fn missing(packages: &[Package]) -> Vec<&'static str> {
    packages.iter().filter(|(_, program)| shell::find_program(program).is_none()).map(|(package, _)| *package).collect()
}

fn install(packages: &[&str]) -> Outcome {
    let mut command = Command::new("apt-get");
    command.args(["install", "-y", "--no-install-recommends"]).args(packages).stdin(Stdio::null());
    command.env("DEBIAN_FRONTEND", "noninteractive");
    // The programs are wanted, not running services: under systemd, and where invoke-rc.d asks for the runlevel.
    command.env("SYSTEMD_OFFLINE", "1").env("RUNLEVEL", "1");
    shell::run(&mut command)
}
