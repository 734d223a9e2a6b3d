//! HTML from text that nobody vouches for: a skill's id, name and description are whatever an agent wrote.
//!
//! Text is escaped for content and for attributes alike. What would be invisible, or would turn the text around it, is shown as its number,
//! so that two ids that look equal are equal. What is long is cut: the page stays a page.

/// The most characters of an id or a name that are shown.
pub const NAME: usize = 80;
/// The most characters of a message or a description.
pub const SENTENCE: usize = 400;

/// Whether a character is seen in no other way than by its number: controls, marks that order text from right to left, zero widths, tags.
fn is_hidden(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
        || character.is_control()
}

/// The text as HTML, for content and for attributes in double quotes.
pub fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' | '\r' | '\t' => html.push(' '),
            hidden if is_hidden(hidden) => html.push_str(&format!("\u{2039}U+{:04X}\u{203a}", u32::from(hidden))),
            other => html.push(other),
        }
    }
    html
}

/// At most so many characters of the text, with a mark if there were more; escaped, and for itself whatever its direction.
pub fn foreign(text: &str, most: usize) -> String {
    let end = text.char_indices().nth(most).map_or(text.len(), |(at, _)| at);
    let more = if end < text.len() { "\u{2026}" } else { "" };
    format!("<bdi>{}{more}</bdi>", escape(&text[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text() {
        assert_eq!(escape("<script>a('&\")</script>]]>"), "&lt;script&gt;a(&#39;&amp;&quot;)&lt;/script&gt;]]&gt;");
    }

    #[test]
    fn what_hides_is_shown() {
        assert_eq!(escape("a\u{202e}b\u{200b}c\0d\u{e0041}"), "a‹U+202E›b‹U+200B›c‹U+0000›d‹U+E0041›");
        assert_eq!(escape("a\n\tb"), "a  b");
        // What joins letters and emoji is a part of words.
        assert_eq!(escape("👩\u{200d}🔬 é ש"), "👩\u{200d}🔬 é ש");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(foreign(&"é".repeat(10_000), 3), "<bdi>ééé…</bdi>");
        assert_eq!(foreign("ééé", 3), "<bdi>ééé</bdi>");
    }
}
