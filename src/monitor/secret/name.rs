//! Which names are those of secrets.

use std::sync::LazyLock;

use regex::Regex;

/// What a name says about its value, from nothing upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// Nothing.
    Plain,
    /// `token` alone. As the name of a member it is a secret; in a sentence or in the source of a parser it is a word.
    Token,
    /// `auth`, `cookie`, `credentials`: words too, but what they name may have parts.
    Loose,
    /// A secret wherever it stands.
    Strong,
}

/// What every name of a secret has in it. Most names have nothing of it, and are done with here.
pub static STEMS: LazyLock<Regex> = LazyLock::new(|| {
    let stems = "(?i-u)pass|pw|secret|token|key|auth|cookie|credential|session|sessid|bearer|phrase|mnemonic|cv[cv]";
    Regex::new(stems).expect("a constant, which every test compiles")
});

/// Of longer names, the last so many bytes, and of those the last so many words, are looked at: what a name is the name of
/// comes last.
const LONGEST: usize = 128;
const MOST_WORDS: usize = 16;

/// Secrets although they stand within a word: `PGPASSWORD`, `userpassword`, `passwordHash`.
const WITHIN_A_WORD: &str = "password passwd passphrase passcode apikey secretkey accesskey privatekey sessionid \
    sessionkey sessid";

/// What a `key` opens: a key of a cache, of a table or of an order does not.
const KEYS: &str = "api access private secret signing encryption master ssh auth session subscription deploy hmac \
    ssl tls";

/// Of whom a `token`, or `tokens`, is a secret in any sentence.
const TOKENS: &str = "access refresh auth oauth authorization api bearer id csrf xsrf session secret bot user \
    slack github gitlab gh hf npm pypi vault jwt personal app service security sas device reset verification \
    webhook admin client private deploy push login x";

/// Whose `pass` or `pw` is no pass of a filter or a test.
const PASSES: &str = "db database sql mysql pg postgres mongo redis rabbitmq smtp imap mail email user login ftp \
    sftp ssh root admin auth http proxy ldap wifi";

/// With these behind, `auth` and `cookie` are still the thing itself.
const STILL_ITSELF: &str = "header headers key code data string value jar";

/// With one of these behind it, a name is about a secret: `password_length`, `token_count`, `secret_name`.
const ABOUT: &str = "number count counts counter length len size limit limits max min policy policies type types \
    kind kinds name names id ids index indices expiry expires expiration expired expire ttl age lifetime usage \
    used url uri endpoint host path file filename dir field fields label prompt required optional enabled \
    disabled valid invalid validator validation status state version strength rules rule format at in on by date \
    time timestamp created updated changed rotation budget cost price rate ratio per bucket error errors message \
    attempts retries manager provider store source scope scopes param parameter env var column placeholder \
    pattern alphabet order";

/// With one of these before it, likewise: `has_password`, `max_token`, `cost_per_token`.
const ABOUT_BEFORE: &str = "is has had no not num number n max min total count avg mean per need needs require \
    requires required show hide enable disable allow forgot";

/// Directly before `token`: those of language models and parsers.
const WORDS_OF_MODELS: &str = "eos bos pad unk mask sep cls stop special next prev previous current first last \
    word sub subword decoder image prompt completion input output cached parse unexpected expected";

/// What a name says. Parts at dots stand for themselves: `auth.user` names a user.
pub fn of(name: &str) -> Name {
    if !STEMS.is_match(name) {
        return Name::Plain;
    }
    let name = name.as_bytes();
    let name = name.split(|&byte| byte == b'.').rfind(|part| !part.is_empty()).unwrap_or_default();
    let mut kept = [&name[..0]; MOST_WORDS];
    let mut count = 0;
    for word in words(&name[name.len().saturating_sub(LONGEST)..]) {
        if count == MOST_WORDS {
            kept.rotate_left(1);
            count -= 1;
        }
        kept[count] = word;
        count += 1;
    }
    let words = &kept[..count];
    (0..count).map(|index| of_word(words, index)).max().unwrap_or(Name::Plain)
}

/// What one word says, with those around it.
fn of_word(words: &[&[u8]], index: usize) -> Name {
    let (before, after) = (&words[..index], &words[index + 1..]);
    let is_about =
        || after.iter().any(|word| is_one_of(word, ABOUT)) || before.iter().any(|word| is_one_of(word, ABOUT_BEFORE));
    match alone(before, words[index], after) {
        Name::Plain => Name::Plain,
        _ if is_about() => Name::Plain,
        name => name,
    }
}

fn alone(before: &[&[u8]], word: &[u8], after: &[&[u8]]) -> Name {
    let is = |names: &str| is_one_of(word, names);
    let follows = |names: &str| before.last().is_some_and(|word| is_one_of(word, names));
    let is_itself = || after.first().is_none_or(|word| is_one_of(word, STILL_ITSELF));
    let within = |part: &str| word.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part.as_bytes()));
    let ends = |part: &str| word.len() >= part.len() && is_one_of(&word[word.len() - part.len()..], part);
    let strong_if = |is: bool| if is { Name::Strong } else { Name::Plain };
    match word {
        _ if is("key keys") => strong_if(follows(KEYS)),
        _ if is("pass pw") => strong_if(follows(PASSES)),
        _ if is("id") => strong_if(follows("session secret")),
        _ if is("phrase") => strong_if(follows("seed recovery backup secret pass")),
        _ if is("tokens") => strong_if(follows(TOKENS)),
        _ if is("token") && follows(TOKENS) => Name::Strong,
        _ if ends("token") && !is("token") => {
            if is_one_of(&word[..word.len() - "token".len()], TOKENS) {
                Name::Strong
            } else {
                Name::Token
            }
        }
        _ if is("token") => {
            if follows(WORDS_OF_MODELS) {
                Name::Plain
            } else {
                Name::Token
            }
        }
        _ if is("auth cookie cookies bearer") => {
            if is_itself() {
                Name::Loose
            } else {
                Name::Plain
            }
        }
        _ if is("passwordless") => Name::Plain,
        // The working folder, in every environment.
        b"PWD" | b"OLDPWD" => Name::Plain,
        _ if within("credential") => Name::Loose,
        _ if is("authorization mnemonic cvv cvc") => Name::Strong,
        _ => strong_if(
            ["secret", "secrets", "pwd"].into_iter().any(ends) || WITHIN_A_WORD.split_ascii_whitespace().any(within),
        ),
    }
}

/// Whether a word is in a list, whatever its case.
pub(super) fn is_one_of(word: &[u8], list: &str) -> bool {
    list.split_ascii_whitespace().any(|item| word.eq_ignore_ascii_case(item.as_bytes()))
}

/// The words of `snake_case`, `kebab-case`, `camelCase`, `HTTPHeader` and `user[password]`, without numbers.
fn words(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_word = |byte: u8| byte.is_ascii_alphabetic() || !byte.is_ascii();
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + name[at..].iter().position(|&byte| is_word(byte))?;
        let mut end = start + 1;
        while end < name.len() && is_word(name[end]) {
            let (last, this, next) = (name[end - 1], name[end], name.get(end + 1));
            let begins = last.is_ascii_lowercase() || next.is_some_and(u8::is_ascii_lowercase);
            if this.is_ascii_uppercase() && begins {
                break;
            }
            end += 1;
        }
        at = end;
        Some(&name[start..end])
    })
}
