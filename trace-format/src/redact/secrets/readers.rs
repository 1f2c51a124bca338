//! Well-known programs that read a secret from their standard input. From their manuals.

/// A program that reads a secret from its standard input.
pub(super) struct Reader {
    /// None: any program.
    pub(super) names: &'static [&'static str],
    /// The words that have to be among its own; a letter behind a dash may be among others.
    pub(super) words: &'static [&'static str],
}

const fn reader(names: &'static [&'static str], words: &'static [&'static str]) -> Reader {
    Reader { names, words }
}

pub(super) const READERS: &[Reader] = &[
    // Whatever it is: these options say it.
    reader(&[], &["--password-stdin"]),
    reader(&[], &["--passwd-on-stdin"]),
    reader(&[], &["--pass-stdin"]),
    reader(&[], &["--passphrase-stdin"]),
    reader(&[], &["--token-stdin"]),
    reader(&[], &["--secret-stdin"]),
    reader(&[], &["--stdin-password"]),
    reader(&[], &["--with-token"]),
    reader(&[], &["--passphrase-fd", "0"]),
    reader(&[], &["--passphrase-fd=0"]),
    reader(&[], &["--password-fd", "0"]),
    reader(&[], &["--password-fd=0"]),
    // Accounts.
    reader(&["sudo"], &["-S"]),
    reader(&["sudo"], &["--stdin"]),
    reader(&["passwd", "chpasswd", "chgpasswd", "kinit", "kpasswd", "unix_chkpwd"], &[]),
    reader(&["smbpasswd"], &["-s"]),
    reader(&["pdbedit"], &["-t"]),
    reader(&["saslpasswd2"], &["-p"]),
    reader(&["htpasswd"], &["-i"]),
    reader(&["mkpasswd"], &["-s"]),
    reader(&["mkpasswd"], &["--stdin"]),
    reader(&["sshpass"], &["-d0"]),
    reader(&["sshfs"], &["password_stdin"]),
    reader(&["vncpasswd"], &["-f"]),
    reader(&["caddy"], &["hash-password"]),
    // Cryptography.
    reader(&["cryptsetup", "cryptsetup-reencrypt", "ssss-combine", "ecryptfs-add-passphrase"], &[]),
    reader(&["veracrypt", "truecrypt"], &["--stdin"]),
    reader(&["zfs"], &["load-key"]),
    reader(&["zfs"], &["change-key"]),
    reader(&["openssl", "libressl"], &["stdin"]),
    reader(&["openssl", "libressl"], &["-stdin"]),
    reader(&["openssl", "libressl"], &["fd:0"]),
    reader(&["wpa_passphrase", "gpg-preset-passphrase", "systemd-creds", "kubeseal"], &[]),
    reader(&["ansible-vault"], &["encrypt_string"]),
    reader(&["pass", "gopass"], &["insert"]),
    reader(&["secret-tool"], &["store"]),
    // Clouds.
    reader(&["docker", "podman", "nerdctl"], &["secret", "create"]),
    reader(&["gh"], &["secret", "set"]),
    reader(&["gcloud"], &["secrets", "create"]),
    reader(&["gcloud"], &["secrets", "add"]),
    reader(&["wrangler"], &["secret", "put"]),
    reader(&["flyctl", "fly"], &["secrets", "import"]),
    reader(&["vercel"], &["env", "add"]),
    reader(&["vault", "bao"], &["login", "-"]),
    reader(&["cargo"], &["login"]),
];

/// Programs whose options for themselves are in front of the program that they run.
pub(super) const OPTIONS_IN_FRONT: &[&str] = &["sudo"];
