//! What makes two runs the same.
//!
//! Two runs share a result only if the skill would have seen exactly the same thing. A key is the BLAKE3 hash, all 256
//! bits of it, of length-prefixed fields; no two different lists of fields have the same bytes.

/// The digest that stands for a run, or for a source.
pub type Digest = [u8; 32];

/// The version of the list of fields below; part of every key.
const FORMAT: u32 = 1;

/// Everything a result depends on.
#[derive(Debug, Clone, Copy)]
pub struct RunFields<'f> {
    /// The skill.
    pub id: &'f str,
    /// The hash of its source.
    pub code: &'f Digest,
    /// Its parameters in canonical JSON; nothing if the source's own default holds.
    pub parameters: Option<&'f str>,
    /// Its output schema in canonical JSON, because the schema decides what is a success.
    pub output_schema: &'f str,
    /// The inputs in canonical JSON; nothing if the source's own default holds.
    pub inputs: Option<&'f str>,
    /// The context likewise.
    pub context: Option<&'f str>,
    /// The interpreter's build and its site-packages setting.
    pub interpreter: &'f str,
}

/// The key of a run.
pub fn of_run(fields: &RunFields) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"skillcache run\0");
    hasher.update(&FORMAT.to_le_bytes());
    for field in [
        Some(fields.id.as_bytes()),
        Some(&fields.code[..]),
        fields.parameters.map(str::as_bytes),
        Some(fields.output_schema.as_bytes()),
        fields.inputs.map(str::as_bytes),
        fields.context.map(str::as_bytes),
        Some(fields.interpreter.as_bytes()),
    ] {
        // An absent field and an empty one differ: no length is all ones.
        hasher.update(&field.map_or(u64::MAX, |field| field.len() as u64).to_le_bytes());
        hasher.update(field.unwrap_or_default());
    }
    *hasher.finalize().as_bytes()
}

/// The key of what is known of a source: that depends on the rules it was judged by.
pub fn of_verdict(code: &Digest, rules: &str) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"skillcache verdict\0");
    hasher.update(code);
    hasher.update(rules.as_bytes());
    *hasher.finalize().as_bytes()
}

/// The hash of a source.
pub fn of_code(code: &str) -> Digest {
    *blake3::hash(code.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_counts_and_none_runs_into_the_next() {
        let (code, other) = (of_code("a"), of_code("b"));
        let base = RunFields {
            id: "a",
            code: &code,
            parameters: None,
            output_schema: "null",
            inputs: Some("{}"),
            context: Some("{}"),
            interpreter: "cpython 3.11",
        };
        let variants = [
            base,
            RunFields { id: "b", ..base },
            RunFields { code: &other, ..base },
            RunFields { parameters: Some("{}"), ..base },
            RunFields { parameters: Some(""), ..base },
            RunFields { output_schema: "true", ..base },
            RunFields { inputs: None, ..base },
            RunFields { inputs: Some("{}{}"), context: Some(""), ..base },
            RunFields { context: Some(""), ..base },
            RunFields { interpreter: "cpython 3.12", ..base },
        ];
        let mut keys: Vec<_> = variants.iter().map(of_run).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), variants.len());
        assert_eq!(of_run(&base), of_run(&base.clone()));
    }

    #[test]
    fn a_verdict_is_only_good_for_its_rules() {
        let (code, other) = (of_code("a"), of_code("b"));
        assert_eq!(of_verdict(&code, "1;os;"), of_verdict(&code, "1;os;"));
        for (code, rules) in [(&code, "2;os;"), (&code, "1;;os"), (&other, "1;os;")] {
            assert_ne!(of_verdict(code, rules), of_verdict(&of_code("a"), "1;os;"));
        }
    }
}
