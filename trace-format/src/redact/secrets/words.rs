//! What names say: whether the value of an option, a variable, a header or a member of this name is a secret.

/// How sure a name makes it that its value is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Name {
    /// The name says nothing.
    #[default]
    Plain,
    /// It may be one (`key`, `session`, `sig`): the look of the value decides.
    Hint,
    /// It is one unless it is the name of a file (`private-key`).
    Key,
    /// It is one.
    Secret,
}

/// Words that make a name one of a secret.
const SECRET: &str = "authorization bearer cookie cookies cred credential credentials creds jwt otp pass passcode \
    passphrase passwd password passwords passwort pin pincode psk pw pwd secret secrets token tokens \
    totp";
/// Ends of words written together that do (`authtoken`, `clientsecret`).
const SECRET_ENDS: &str = "cookie credential credentials passphrase passwd pwd secret token";
/// What stands in front of `pass` and `pw` in words written together. Others are `bypass` and `compass`.
const PASS_OF: &str = "admin auth become bind cert client db export ftp http import key ldap mail my mysql pg proxy redis \
    root server smtp ssh store sudo user vault wifi wp";
/// What makes a `key` one that must not be told.
const KEYS: &str = "access account api auth authentication consumer crypt crypto decryption encryption hmac ingest \
    ingestion integration license licence master preshared private recovery secret shared signing \
    storage subscription unseal";
/// Words that let the value decide.
const HINTS: &str = "auth authkey code key keys login nonce sas session sessionid sessid sid sig signature";
/// Ends of names that are about a secret: where it is, how long, of which kind.
const ABOUT: &str = "age alg algorithm attempts audience bits bucket class cmd command count dir directory disabled \
    enabled endpoint env exists expiration expires expiry fd field file files filename folder format \
    generator helper host id ids issuer jar kind len length lifetime limit max method min mode name \
    names only path paths policy port prefix program prompt provider ref required retries rotation \
    scheme scope scopes server service size source stdin store strategy suffix timeout ttl type types \
    uri url user username validity var version";
/// Beginnings of names that turn something on or off.
const SWITCH: &str = "allow ask disable enable generate has is max min need no num prompt require show skip use with \
    without";
/// Longest name that is looked at.
pub(super) const MAX_NAME: usize = 80;

/// What the name of a value says about it.
pub(super) fn name(name: &[u8]) -> Name {
    // `-Dpass=X`, `-Ppwd=X`: properties of Java's build tools.
    let name = match name {
        [b'-', b'D' | b'P', rest @ ..] if rest.first().is_some_and(u8::is_ascii_alphabetic) => rest,
        _ => name,
    };
    if name.len() < 2 || name.len() > MAX_NAME {
        return Name::Plain;
    }
    let mut words = [(0, 0); 16];
    let count = split(name, &mut words);
    let lower = name.to_ascii_lowercase();
    let words: Vec<&[u8]> = words[..count].iter().map(|(from, to)| &lower[*from..*to]).collect();
    let (Some(first), Some(last)) = (words.first(), words.last()) else { return Name::Plain };
    if words.len() > 1 && (has(ABOUT, last) || has(SWITCH, first)) {
        // `secret_id` of some services is one, and a name with others.
        let is_hint = *last == b"id" && matches!(words[words.len() - 2], b"secret" | b"session");
        return if is_hint { Name::Hint } else { Name::Plain };
    }
    let mut found = Name::Plain;
    for (i, word) in words.iter().enumerate() {
        let before = i.checked_sub(1).map(|n| words[n]);
        found = found.max(judge(word, before, i + 1 == words.len()));
    }
    found
}

fn judge(word: &[u8], before: Option<&[u8]>, is_last: bool) -> Name {
    if has(SECRET, word)
        || SECRET_ENDS.split(' ').any(|end| word.ends_with(end.as_bytes()))
        || find(word, b"passw")
    {
        return Name::Secret;
    }
    let in_front = |end: &[u8]| word.strip_suffix(end).filter(|rest| !rest.is_empty());
    if in_front(b"pass").or(in_front(b"pw")).is_some_and(|rest| has(PASS_OF, rest)) {
        return Name::Secret;
    }
    if in_front(b"key").is_some_and(|rest| has(KEYS, rest)) {
        return Name::Key;
    }
    if matches!(word, b"key" | b"keys") && before.is_some_and(|before| has(KEYS, before)) {
        return Name::Key;
    }
    // `REDIS_AUTH`; by itself it is rather a method.
    if is_last && before.is_some() && word == b"auth" {
        return Name::Key;
    }
    if is_last && (has(HINTS, word) || in_front(b"key").is_some_and(|rest| has(PASS_OF, rest))) {
        return Name::Hint;
    }
    Name::Plain
}

fn find(word: &[u8], part: &[u8]) -> bool {
    word.windows(part.len()).any(|w| w == part)
}

/// Whether a word is in a list that blanks part.
fn has(list: &str, word: &[u8]) -> bool {
    list.split(' ').any(|known| known.as_bytes() == word)
}

/// Parts a name where a separator, a hump of camel case, or a digit is. Returns how many parts there are.
fn split(name: &[u8], words: &mut [(usize, usize); 16]) -> usize {
    let mut count = 0;
    let mut start = 0;
    for at in 0..=name.len() {
        let is_end = at == name.len() || !name[at].is_ascii_alphabetic() || at > start && is_hump(name, at);
        if !is_end {
            continue;
        }
        if at > start && count < words.len() {
            words[count] = (start, at);
            count += 1;
        }
        start = if at < name.len() && name[at].is_ascii_alphabetic() { at } else { at + 1 };
    }
    count
}

/// Whether a word of camel case begins here: `apiKey`, `APIKey`.
fn is_hump(name: &[u8], at: usize) -> bool {
    name[at].is_ascii_uppercase()
        && (name[at - 1].is_ascii_lowercase()
            || name[at - 1].is_ascii_uppercase() && name.get(at + 1).is_some_and(u8::is_ascii_lowercase))
}

/// Values that say that there is no secret, or where it is; ends of a replacement with nothing in it (`s/password=.*/password=/g`).
const NO_VALUE: &str = "$ $/ $// $//g - / /d /g /i /p 0 1 2 3 all amd64 arm64 false i386 nil no none null off on true undefined yes";
/// Ways of authentication: values of options about it.
const METHODS: &str = "any anonymous auto aws basic bearer cert digest gssapi iam ident kerberos ldap login md5 negotiate \
    ntlm oauth oauth2 oidc pam password peer plain required token trust userpass";
/// Directories that files with secrets are in.
const ROOTS: &str = "app boot config data dev etc home mnt opt proc root run secrets srv sys tmp usr var vault \
    workspace";
/// Extensions of files that hold keys and settings.
const EXTENSIONS: &str =
    "asc cer conf crt csr db der env gpg jks json key p12 pem pfx pub py sh toml txt xml yaml yml";

/// Whether a value of a name is a secret.
pub(super) fn is_secret(name: Name, value: &[u8]) -> bool {
    let value = match value {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        _ => value,
    };
    let lower = value.to_ascii_lowercase();
    if value.is_empty()
        || has(NO_VALUE, &lower)
        || is_reference(value)
        || is_path(value)
        || is_version(value)
        || pattern_len(value) > 0
    {
        return false;
    }
    match name {
        Name::Plain => false,
        Name::Secret => true,
        Name::Key => !has(METHODS, &lower) && !is_file(&lower),
        Name::Hint => !has(METHODS, &lower) && !is_file(&lower) && super::entropy::is_made(value),
    }
}

/// `$NAME`, `${name}`, `$(command)`, `\1`, `{{ template }}`, `<placeholder>`.
fn is_reference(value: &[u8]) -> bool {
    match value {
        [b'$', b'{' | b'(', ..] | [b'{', b'{', ..] | [b'<', .., b'>'] => true,
        // What a pattern matched.
        [b'\\', b'0'..=b'9', rest @ ..] => !rest.first().is_some_and(u8::is_ascii_alphanumeric),
        [b'$', name @ ..] => {
            !name.is_empty() && name.iter().all(|b| b.is_ascii_uppercase() || matches!(b, b'_' | b'0'..=b'9'))
        }
        _ => false,
    }
}

/// Whether the value of this name is a command that prints a secret: `--password-command`, `BORG_PASSCOMMAND`.
pub(super) fn is_command_of_secret(of: &[u8]) -> bool {
    let lower = of.to_ascii_lowercase();
    let rest = lower.strip_suffix(b"command").or_else(|| lower.strip_suffix(b"cmd"));
    rest.is_some_and(|rest| name(rest) == Name::Secret)
}

/// How long the pattern is that a value begins with, which stands for any text: `.*`, `[^ ]*`, `\S+`, `\([a-z]\+`.
pub(super) fn pattern_len(value: &[u8]) -> usize {
    // A blank in front of it may be repeated: `: *\S+`.
    if let [b'*' | b'+', rest @ ..] = value {
        return match class_len(rest) {
            0 => 0,
            len => len + 1,
        };
    }
    class_len(value)
}

/// How long a class of characters with a quantifier is, and the openings of groups in front of it.
fn class_len(value: &[u8]) -> usize {
    let group = value.iter().take_while(|b| matches!(b, b'(' | b'\\' | b'?' | b':')).count();
    // The last backslash of `\S` and `\(\S` is the class's own.
    let open = value[..group].iter().rposition(|b| *b != b'\\').map_or(0, |n| n + 1);
    let class = match &value[open..] {
        [b'.', rest @ ..] => 1 + rest.iter().take_while(|b| **b == b'.').count(),
        [b'[', rest @ ..] => {
            // `]` in front is a member of its class.
            let first = rest.iter().take_while(|b| matches!(b, b'^' | b'[')).count() + 1;
            match rest.iter().skip(first).position(|b| *b == b']') {
                Some(end) => {
                    let end = first + end + 2;
                    end + usize::from(value.get(open + end) == Some(&b']'))
                }
                None => return 0,
            }
        }
        rest => {
            let escapes = rest.iter().take_while(|b| **b == b'\\').count();
            match rest.get(escapes) {
                Some(b'S' | b's' | b'w' | b'W' | b'd' | b'D') if (1..=2).contains(&escapes) => escapes + 1,
                _ => return 0,
            }
        }
    };
    let end = open + class;
    let escapes = value[end..].iter().take_while(|b| **b == b'\\').count();
    match value.get(end + escapes) {
        Some(b'*' | b'+' | b'{') if escapes <= 2 => end + escapes + 1,
        _ => 0,
    }
}

/// `3.6.1`, `1:4.13+dfsg1-1ubuntu2`: behind the name of a package that is about passwords.
fn is_version(value: &[u8]) -> bool {
    let mut numbers = value.split(|b| matches!(b, b'.' | b':'));
    let is_number =
        |part: Option<&[u8]>| part.is_some_and(|p| !p.is_empty() && p.len() <= 4 && p[0].is_ascii_digit());
    let is_text = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'~' | b':' | b'-');
    value.contains(&b'.')
        && numbers.next().is_some_and(|p| !p.is_empty() && p.len() <= 4 && p.iter().all(u8::is_ascii_digit))
        && is_number(numbers.next())
        && value.iter().all(is_text)
}

/// A path rather than base 64 with a slash in it.
pub(super) fn is_path(value: &[u8]) -> bool {
    let relative: [&[u8]; 5] = [b"./", b"../", b"~/", b"file:", b"@/"];
    if relative.iter().any(|start| value.starts_with(start)) {
        return true;
    }
    let Some(rest) = value.strip_prefix(b"/") else { return false };
    let first = rest.split(|b| *b == b'/').next().unwrap_or_default();
    has(ROOTS, first)
}

fn is_file(lower: &[u8]) -> bool {
    lower.iter().rposition(|b| *b == b'.').is_some_and(|dot| dot > 0 && has(EXTENSIONS, &lower[dot + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_in_any_style() {
        for secret in [
            "password",
            "Password",
            "DB_PASS",
            "pwd",
            "PGPASSWORD",
            "dbPassword",
            "db.password",
            "client-secret",
            "clientSecret",
            "SECRET_KEY_BASE",
            "X-Vault-Token",
            "botToken",
            "authtoken",
            "userpass",
            "rootpw",
            "spring.datasource.password",
            "Set-Cookie",
            "_authToken",
            "keyStorePassword",
            "pin",
            "AWS_SESSION_TOKEN",
            "-Dpass",
            "-DPASS",
            "-Ddb.pwd",
            "-Ppwd",
        ] {
            assert_eq!(name(secret.as_bytes()), Name::Secret, "{secret}");
        }
        for key in [
            "api-key",
            "apiKey",
            "APIKey",
            "X-API-KEY",
            "AccountKey",
            "SharedAccessKey",
            "private_key",
            "REDIS_AUTH",
        ] {
            assert_eq!(name(key.as_bytes()), Name::Key, "{key}");
        }
        for hint in ["key", "STRIPE_KEY", "auth", "sig", "X-Amz-Signature", "session", "secret_id"] {
            assert_eq!(name(hint.as_bytes()), Name::Hint, "{hint}");
        }
    }

    #[test]
    fn names_that_only_sound_so_are_plain() {
        for plain in [
            "keyboard",
            "monkey",
            "author",
            "authority",
            "compass",
            "bypass",
            "passthrough",
            "tokenizer",
            "keyword",
            "password-file",
            "token_count",
            "max-tokens",
            "no-password",
            "secretName",
            "authenticationDatabase",
            "passes",
            "spin",
            "pinned",
            "design",
            "key-id",
            "secretary",
            "",
            "x",
            "token-ttl",
            "credential.helper",
        ] {
            assert_eq!(name(plain.as_bytes()), Name::Plain, "{plain}");
        }
    }

    #[test]
    fn a_pattern_is_no_value() {
        for (value, pattern) in [
            (".*/password=x/", ".*"),
            ("[^ ]*/x/", "[^ ]*"),
            ("[^]\"]\\+x", "[^]\"]\\+"),
            ("[[:alnum:]]*&", "[[:alnum:]]*"),
            ("\\S+", "\\S+"),
            ("\\\\w*", "\\\\w*"),
            ("\\(.*\\)", "\\(.*"),
            ("(?:[a-z]{3})", "(?:[a-z]{"),
            ("(\\d+)", "(\\d+"),
            ("..*/x", "..*"),
            ("*\\S\\+/x/", "*\\S\\+"),
        ] {
            assert_eq!(pattern_len(value.as_bytes()), pattern.len(), "{value}");
            assert!(!is_secret(Name::Secret, value.as_bytes()), "{value}");
        }
        for value in ["hunter2.*", ".hunter2", "[x]", "\\hunter", "(x)", "[x", "\\", "", "S+", "*", "*x"] {
            assert_eq!(pattern_len(value.as_bytes()), 0, "{value}");
        }
    }

    #[test]
    fn names_of_commands_that_print_a_secret_are_known() {
        for of in ["--password-command", "RESTIC_PASSWORD_COMMAND", "BORG_PASSCOMMAND", "passcmd"] {
            assert!(is_command_of_secret(of.as_bytes()), "{of}");
        }
        for of in ["--command", "cmd", "--pre-command", "--password-file"] {
            assert!(!is_command_of_secret(of.as_bytes()), "{of}");
        }
    }

    #[test]
    fn values_that_hold_no_secret_stay() {
        for value in [
            "",
            "none",
            "true",
            "$PASSWORD",
            "${x}",
            "$(cat f)",
            "\\1/",
            "/run/secrets/x",
            "./token",
            "@/etc/x",
        ] {
            assert!(!is_secret(Name::Secret, value.as_bytes()), "{value}");
        }
        for value in ["hunter2", "$ecret", "/Zm9vYmFy", "None7"] {
            assert!(is_secret(Name::Secret, value.as_bytes()), "{value}");
        }
        assert!(!is_secret(Name::Key, b"server-key.pem") && is_secret(Name::Key, b"abcdef"));
        assert!(!is_secret(Name::Hint, b"name") && is_secret(Name::Hint, b"a1b2c3d4e5"));
    }
}
