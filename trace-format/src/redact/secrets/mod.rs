//! The default policy: what looks secret in a string is masked, the rest stays.
//!
//! A secret in an argument becomes `***`. Elsewhere (a path, a socket's name) it becomes a pseudonym, because there the
//! difference between two names is part of what happened. Masking what is masked changes nothing.
//!
//! | module | what it knows |
//! |---|---|
//! | `words` | which names are names of secrets, and which values are none |
//! | `assign`, `urls`, `tokens` | how secrets stand in a text |
//! | `signs` | whether a text is worth a look |
//! | `json`, `shell` | texts inside texts |
//! | `stdin`, `expect` | what a script hands to a program that asks for a secret |
//! | `entropy` | what is a key by its look |
//! | `programs`, `readers`, `command` | which program takes a secret where |
//! | `labels` | which labels and annotations are harmless |

mod assign;
mod command;
mod entropy;
mod expect;
mod json;
mod labels;
mod programs;
mod readers;
mod shell;
mod signs;
mod spans;
mod stdin;
mod text;
mod tokens;
mod urls;
mod words;

use json::Sight;
use spans::{MASK, Spans, rule};
use text::{ends_value, run};

/// What was masked may leave something behind that only now looks secret. More rounds than this leave it there.
const ROUNDS: usize = 8;
/// Deepest that texts inside texts are looked at: a script in JSON in a script.
const MAX_DEPTH: u8 = 4;

/// Masks any string but an argument; `None`: there is nothing to mask.
pub(super) fn text(
    bytes: &[u8],
    pseudonym: &dyn Fn(&[u8]) -> Vec<u8>,
    count: &mut dyn FnMut(&'static str),
) -> Option<Vec<u8>> {
    if !signs::are_in(bytes) {
        return None;
    }
    let sight = Sight { is_secret: false, is_argument: false, depth: 0 };
    let mut masked = None;
    for _ in 0..ROUNDS {
        let now: &[u8] = masked.as_deref().unwrap_or(bytes);
        let mut spans = Spans::default();
        scan_inside(now, sight, &mut spans);
        assign::file_names(now, &mut spans);
        match spans.apply(now, &|secret, _| pseudonym(secret), count) {
            Some(more) => masked = Some(more),
            None => break,
        }
    }
    masked
}

/// Masks the words of an argument vector in place.
pub(super) fn argv(
    words: &mut [Vec<u8>],
    pseudonym: &dyn Fn(&[u8]) -> Vec<u8>,
    count: &mut dyn FnMut(&'static str),
) {
    // A name has to stay the one that the program's calls use.
    let mask = |secret: &[u8], rule: &str| if rule == rule::FILE { pseudonym(secret) } else { MASK.to_vec() };
    let sight = Sight { is_secret: false, is_argument: true, depth: 0 };
    for _ in 0..ROUNDS {
        let now: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mut found = command::judge(&now, sight);
        let mut is_changed = false;
        for (word, mut spans) in words.iter_mut().zip(found.drain(..)) {
            assign::file_names(word, &mut spans);
            if let Some(masked) = spans.apply(word, &mask, count) {
                *word = masked;
                is_changed = true;
            }
        }
        if !is_changed {
            break;
        }
    }
}

/// Masks the value of a label or an annotation in place.
pub(super) fn label(
    name: &str,
    value: &mut String,
    pseudonym: &dyn Fn(&[u8]) -> Vec<u8>,
    count: &mut dyn FnMut(&'static str),
) {
    if !labels::is_harmless(name) {
        if !value.is_empty() && value.as_bytes() != MASK {
            *value = String::from_utf8_lossy(MASK).into_owned();
            count(rule::LABEL);
        }
        return;
    }
    let mut words = [Vec::new(), std::mem::take(value).into_bytes()];
    argv(&mut words, pseudonym, count);
    let [_, word] = words;
    *value = String::from_utf8_lossy(&word).into_owned();
}

/// Finds what looks secret in a text, and in the texts that are inside it.
fn scan_inside(bytes: &[u8], sight: Sight, spans: &mut Spans) {
    // The shortest secret with what gives it away is longer.
    if bytes.len() < 6 || sight.depth > MAX_DEPTH {
        return;
    }
    if sight.is_argument {
        random_words(bytes, spans);
    }
    if signs::are_in(bytes) {
        urls::scan(bytes, spans);
        assign::scan(bytes, spans);
        tokens::scan(bytes, spans);
    }
    let inner = Sight { depth: sight.depth + 1, ..sight };
    if json::is_likely(bytes) {
        json::scan(bytes, inner, spans);
    }
    expect::scan(bytes, false, spans);
    // A script; without an option there is none that matters in it, unless it is handed on or its program is known.
    if bytes.contains(&b' ')
        && (bytes.iter().any(|b| matches!(b, b'-' | b'=' | b'/' | b'|' | b'<')) || command::is_begun(bytes))
    {
        let commands = shell::commands(bytes);
        for command in &commands {
            let words: Vec<&[u8]> = command.words.iter().map(|piece| piece.text.as_slice()).collect();
            for (found, piece) in command::judge(&words, inner).iter().zip(&command.words) {
                spans.add_inner(found, piece);
            }
        }
        stdin::scan(&commands, spans);
    }
}

/// Words that are keys by their look. For arguments: elsewhere they are names of containers, layers and objects.
fn random_words(bytes: &[u8], spans: &mut Spans) {
    let mut at = 0;
    while at < bytes.len() {
        let end = run(bytes, at, |b| !ends_value(b));
        // Behind a name and `=`; a padding is no name's.
        let word = &bytes[at..end];
        let equals = word.iter().rposition(|b| *b == b'=').filter(|n| n + 1 < word.len());
        let start = equals.map_or(at, |n| at + n + 1);
        if entropy::looks_random(&bytes[start..end]) {
            spans.add(start, end, rule::KEY);
        }
        at = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(words: &[&str]) -> Vec<String> {
        let mut words: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
        argv(&mut words, &|_| b"~000000000".to_vec(), &mut |_| {});
        words.into_iter().map(|w| String::from_utf8(w).unwrap()).collect()
    }

    fn named(name: &str) -> Option<String> {
        text(name.as_bytes(), &|_| b"~".to_vec(), &mut |_| {}).map(|t| String::from_utf8(t).unwrap())
    }

    #[test]
    fn secrets_in_arguments_are_masked_and_ordinary_words_are_not() {
        assert_eq!(masked(&["x", "--password=hunter2", "-v"]), ["x", "--password=***", "-v"]);
        assert_eq!(masked(&["x", "--token", "abc", "out"]), ["x", "--token", "***", "out"]);
        assert_eq!(masked(&["env", "DB_PASSWORD=x", "HOME=/root"]), ["env", "DB_PASSWORD=***", "HOME=/root"]);
        assert_eq!(masked(&["curl", "https://u:p@h/x"]), ["curl", "https://u:***@h/x"]);
        assert_eq!(masked(&["curl", "-H", "Authorization: Basic Zm9v"])[2], "Authorization:***");
        assert_eq!(masked(&["x", "Zq8fL2xWv0RtY7uKp3NsB4mJ6hG8dS"]), ["x", "***"]);
        let commit = ["git", "show", "0123456789abcdef0123456789abcdef01234567"];
        assert_eq!(masked(&commit), commit);
        let plain =
            ["git", "log", "--author=me", "src/very/long/path/with/many/parts/and/a/name-2024-01-01.txt"];
        assert_eq!(masked(&plain), plain);
    }

    #[test]
    fn secrets_inside_a_script_or_a_title_are_masked() {
        for (raw, shown) in [
            ("mysql --password hunter2 -h db", "mysql --password *** -h db"),
            ("export DB_PASSWORD='hunter2'; run", "export DB_PASSWORD='***'; run"),
            ("curl -H 'Authorization: Bearer abc.def' http://x/", "curl -H 'Authorization:***' http://x/"),
            ("curl -H \"X-Api-Key: abc123\" http://x/", "curl -H \"X-Api-Key: ***\" http://x/"),
            ("{\"password\":\"hunter2\",\"user\":\"me\"}", "{\"password\":\"***\",\"user\":\"me\"}"),
            (
                "git clone https://x:ghp_abcdefghij0123456789@github.com/a/b",
                "git clone https://x:***@github.com/a/b",
            ),
            ("echo ghp_abcdefghij0123456789 >x", "echo *** >x"),
            ("docker run -v /run/secrets:/run/secrets app", "docker run -v /run/secrets:/run/secrets app"),
            ("sleep 5; echo done", "sleep 5; echo done"),
        ] {
            assert_eq!(masked(&["sh", "-c", raw])[2], shown);
        }
    }

    #[test]
    fn patterns_users_and_lists_stay() {
        for plain in [
            &["sed", "s/password=.*/password=/"][..],
            &["sed", "-E", "s/(token|secret)=[^ ]+/\\1=/g"],
            &["sed", r"s/secret: *\S\+//"],
            &["sh", "-c", r#"sed -i "s/password=.*/x/; s/user=.*/y/" a.conf && ls -l"#],
            &["grep", "-o", "password=[^&]*"],
            &["grep", "-oE", "password=\"[^\"]*\""],
            &["sed", "s/password: '[^']*'/x/"],
            &["awk", "/token: [a-z]+/ {print $2}"],
            &["sed", "s/Authorization: .*/x/;s/a/b/"],
            &["git", "clone", "https://git@github.com/a/b"],
            &["git", "clone", "https://bob@example.com/a/b"],
            &["git", "clone", "https://build-user2@example.com/a/b"],
            &["git", "clone", "ssh://git@github.com/a/b"],
            &["git", "clone", "ssh://k7Q2x9Bf4z@host/a"],
            &["docker", "pull", "registry:5000/a/nginx:1.25@sha256:0123456789abcdef"],
            &["npm", "install", "@types/node@18.1", "a/b@v1"],
            &["java", "-Dpass.file=x", "-Duser=bob"],
            &["make", "BYPASS=abc", "PASSES=abc"],
            &["vault", "kv", "put", "secret/x", "foo=@file", "bar=-", "@data.json"],
            &["consul", "kv", "put", "app/color", "blue"],
            &["smbclient", "//host/share", "-c", "ls"],
            &["isql", "dsn", "-v"],
            &["fly", "-t", "ci", "login"],
            &["restic", "--password-command", "cat /etc/restic"],
            &["sh", "-c", "echo hello world | tee x | sudo tee /etc/motd"],
            &["expect", "-c", "spawn ./install.sh; send \"yes\\r\""],
            &["git", "commit", "-m", "spawn ssh when send fails; send it to sudo"],
            &["sh", "-c", "echo deb http://x/ stable main | sudo tee /etc/apt/sources.list"],
            &["sh", "-c", "echo 1 | sudo tee /proc/sys/vm/drop_caches"],
            &["sh", "-c", "cat key.pub | ssh u@h 'cat >> .ssh/authorized_keys'"],
            &["sh", "-c", "getent passwd | cut -d: -f1"],
            &["sh", "-c", "echo foo | grep passwd /etc/passwd"],
            &["sh", "-c", "echo hi | openssl dgst -sha256"],
            &["sh", "-c", "echo hi | openssl base64"],
            &["python3", "-m", "pytest", "-p", "no:cacheprovider", "tests/net", "time"],
            &["python3", "setup.py", "build", "net"],
            &["net", "ads", "testjoin"],
            &["vault", "read", "secret/x"],
            &["reg", "query", "HKLM/Software:x"],
            &["services", "list", "a/b:c"],
            &["git", "clone", "https://deploybot2024@git.example.com/a"],
            &["git", "clone", "https://jsmith1234@bitbucket.org/a/b"],
            &["git", "clone", "https://myorg-team1@dev.azure.com/o/p"],
            &["git", "clone", "https://user-at-123@git.example.com/o/p"],
            &["app", "jdbc:oracle:thin:@h:1521/x"],
            &["app", "jdbc:oracle:thin:@//h:1521/x"],
            &["app", "jdbc:oracle:thin:/@h:1521/x"],
            &["sh", "-c", "make 2>&1 | tee log; ls <x >y & wait"],
            &["fly", "secrets", "list"],
            &["gcc", "-Ppass", "-DPASSES=3"],
            &["cmake", "-DPASS=ON"],
            &["expect", "-c", "send \"ls -l /tmp\\r\"; expect eof"],
            &["sed", "-n", "s/.*token=\\([^&]*\\).*/\\1/p"],
            &["grep", "-P", "(?<=password: )\\S+"],
            &["perl", "-pe", "s/secret=(.*?)&/x/"],
            &["awk", "-F", "password=", "{print $2}"],
            &["sed", "s/password=.*$/password=\\1/"],
            &["sed", "s|^PASSWORD=.*|PASSWORD=$NEW|"],
            &["sed", "s/TOKEN=.*/TOKEN=${TOKEN}/"],
            &["sed", "s/password=..*/x/"],
            &["sed", "/password=/d"],
            &["sed", "s/password=$//"],
        ] {
            assert_eq!(masked(plain), plain);
        }
        assert_eq!(
            masked(&["sed", "s/password=[^ ]*/password=hunter2/"])[1],
            "s/password=[^ ]*/password=***"
        );
    }

    #[test]
    fn secrets_in_names_are_masked_and_names_about_secrets_are_not() {
        assert_eq!(named("/tmp/token-4f9a8b7c6d5e").as_deref(), Some("/tmp/token-~"));
        assert_eq!(
            named("/run/app/session_secret.k3jx81q0/sock").as_deref(),
            Some("/run/app/session_secret.~/sock")
        );
        assert_eq!(named("@/x/api_key=abcdef").as_deref(), Some("@/x/api_key=~"));
        assert_eq!(named("postgres://app:pw@db:5432/x").as_deref(), Some("postgres://app:~@db:5432/x"));
        for plain in [
            "/var/run/secrets/kubernetes.io/serviceaccount/token",
            "/usr/lib/python3/dist-packages/secretstorage/__init__.py",
            "/etc/security/passwd-2024.bak",
            "/sys/fs/cgroup/kubepods/pod0b1c/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "/src/token_bucket.rs",
            "tokio-runtime-w",
            "",
        ] {
            assert_eq!(named(plain), None, "{plain}");
        }
    }

    #[test]
    fn masking_twice_masks_once() {
        let mut counts = 0;
        let mut words = vec![b"x".to_vec(), b"--secret=x1".to_vec(), b"--token".to_vec(), b"t".to_vec()];
        argv(&mut words, &|_| b"~000000000".to_vec(), &mut |_| counts += 1);
        let once = words.clone();
        argv(&mut words, &|_| b"~000000000".to_vec(), &mut |_| counts += 1);
        assert_eq!((words, counts), (once, 2));
    }

    #[test]
    fn no_text_makes_it_panic() {
        use proptest::prelude::*;
        let parts = prop_oneof![
            Just("password".to_owned()),
            Just("=".to_owned()),
            Just(":".to_owned()),
            Just("://".to_owned()),
            Just("@".to_owned()),
            Just(" ".to_owned()),
            Just("--".to_owned()),
            Just("Bearer ".to_owned()),
            Just("authorization:".to_owned()),
            Just("eyJ".to_owned()),
            Just("\"".to_owned()),
            Just("{".to_owned()),
            Just("[".to_owned()),
            Just("\\".to_owned()),
            Just("'".to_owned()),
            Just("mysql -p".to_owned()),
            Just("sudo sh -c ".to_owned()),
            Just("-----BEGIN PRIVATE KEY".to_owned()),
            Just("https://hooks.x/services/".to_owned()),
            Just("***".to_owned()),
            Just("echo ".to_owned()),
            Just(" | sudo -S ".to_owned()),
            Just(" <<<".to_owned()),
            Just("passwd <<E\n".to_owned()),
            Just("spawn ssh ".to_owned()),
            Just("send ".to_owned()),
            Just("jdbc:oracle:thin:".to_owned()),
            Just("/x@h:1521".to_owned()),
            Just("vault kv put ".to_owned()),
            Just("--password-command ".to_owned()),
            Just("[^".to_owned()),
            Just(".*".to_owned()),
            Just("\"name\":\"token\",\"value\":".to_owned()),
            "[a-zA-Z0-9]{0,30}",
        ];
        proptest!(|(parts in proptest::collection::vec(parts, 0..12), raw in any::<Vec<u8>>())| {
            for bytes in [parts.concat().into_bytes(), raw] {
                let once = text(&bytes, &|_| b"~000000000".to_vec(), &mut |_| {}).unwrap_or(bytes.clone());
                prop_assert_eq!(text(&once, &|_| b"~000000000".to_vec(), &mut |_| {}), None);
                let mut words = vec![b"x".to_vec(), bytes.clone(), Vec::new(), bytes];
                argv(&mut words, &|_| b"~000000000".to_vec(), &mut |_| {});
                let once = words.clone();
                argv(&mut words, &|_| b"~000000000".to_vec(), &mut |_| {});
                prop_assert_eq!(words, once);
            }
        });
    }
}
