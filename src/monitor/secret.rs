//! Secrets in what the monitor tells: masked before anybody else can see them.
//!
//! Skills work with keys and passwords, and what they raise quotes them: events and logs would carry them to wherever the host sends such
//! things. So every text is gone through, and every value to its last member, for two kinds of secrets:
//!
//! * Known by how they look (`shape.rs`, `card.rs`): tokens that say what they are (`ghp_`, `AKIA`), JSON Web Tokens, private keys,
//!   credentials in URLs, e-mail addresses, numbers of cards with a right check digit.
//! * Known by the name before them (`name.rs`): in texts, what stands behind `password=`, `"api_key":`, `Authorization:`, `--token`
//!   (`pair.rs` finds the name, `value.rs` says what of the rest is the value); in values, a member of that name, whole, whatever it is.
//!
//! The name stays. What is no secret stays too, or nobody could work with the events: numbers, digests, trace ids, skill ids, and lines of
//! Python, where `token = tokens[i]` and `password: str` name a secret and show none. A word of everyday (`token`, `auth`) makes a secret
//! only of what can be no word itself, unless it is the name of a member; `password` and `api_key` make one of anything. `pin` and `pass`
//! by themselves make none: they name what chips, maps and tests have far more often than four digits that masking hides from nobody.
//!
//! Not promised: a secret that neither looks like one nor is named ("it is swordfish"); one that was encoded, split or translated; the
//! further words of a password that has spaces and no quotes. This is a net below hosts that keep secrets out of texts.
//!
//! Time is linear in the text, whatever it is; a text without secrets is not copied. Masking twice is masking once; JSON stays JSON.

mod card;
mod name;
mod pair;
mod shape;
mod text;
mod value;

use std::borrow::Cow;
use std::collections::HashSet;

use crate::json::Value;
use name::Name;

/// What stands in a secret's place.
pub const MASK: &str = "[masked]";

/// Masking can uncover a secret that something else stood in the way of. Nothing real takes more than two rounds.
const MOST_ROUNDS: usize = 8;

/// A text without its secrets.
pub fn mask_text(text: &str) -> Cow<'_, str> {
    let passes = [shape::mask_keys, shape::mask_web_tokens, shape::mask_addresses, card::mask, pair::mask];
    let mut masked = Cow::Borrowed(text);
    for _ in 0..MOST_ROUNDS {
        let mut is_changed = false;
        for pass in passes {
            if let Some(text) = pass(&masked) {
                (masked, is_changed) = (Cow::Owned(text), true);
            }
        }
        if !is_changed {
            break;
        }
    }
    masked
}

/// Masks the member of that name: whole if the name is that of a secret, else what is secret in it. What is not there (null) stays so.
pub fn mask_member(name: &str, value: &mut Value) {
    match value {
        Value::Null => {}
        _ if name::of(name) > Name::Plain => *value = Value::from(MASK),
        _ => mask(value),
    }
}

/// Masks the secrets in a value, however deep.
pub fn mask(value: &mut Value) {
    // With a list of what is left to do, so that depth takes no stack.
    let (mut next, mut left) = (Some(value), Vec::new());
    while let Some(value) = next.take().or_else(|| left.pop()) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(masked) = mask_text(text) {
                    *text = masked;
                }
            }
            Value::Number(number) if card::is_card(number.as_str().as_bytes()) => *value = Value::from(MASK),
            Value::Array(items) => left.extend(items),
            Value::Object(members) => left.extend(mask_members(members)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Masks names, and the members that their names, or a `name` beside a `value`, make secret. The others are left.
fn mask_members(members: &mut [(String, Value)]) -> impl Iterator<Item = &mut Value> {
    mask_names(members);
    let is_named = members.iter().any(|(name, value)| {
        let names = value.as_str().filter(|_| ["name", "key", "header"].contains(&name.as_str()));
        names.is_some_and(|name| name::of(name) == Name::Strong)
    });
    members.iter_mut().filter_map(move |(name, value)| {
        let is_secret = name::of(name) > Name::Plain || (is_named && name == "value");
        if is_secret && *value != Value::Null {
            *value = Value::from(MASK);
        }
        Some(value).filter(|_| !is_secret)
    })
}

/// Masks names, and numbers those that would be equal.
fn mask_names(members: &mut [(String, Value)]) {
    let mut taken = HashSet::new();
    let mut number = 1;
    for index in 0..members.len() {
        let Cow::Owned(masked) = mask_text(&members[index].0) else { continue };
        if taken.is_empty() {
            taken.extend(members.iter().map(|(name, _)| name.clone()));
        }
        let mut name = masked.clone();
        while !taken.insert(name.clone()) {
            number += 1;
            name = format!("{masked} {number}");
        }
        members[index].0 = name;
    }
}

#[cfg(test)]
mod tests;
