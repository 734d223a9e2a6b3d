//! The colours: each has one for light paper and one for dark.
//!
//! Charts are drawn in the light ones. Where dark is asked for, the style sheet finds them by their value and puts the dark ones in their
//! place; so a chart that somebody cuts out of the page still has its colours.

use std::fmt::Write as _;

use plotters::style::RGBColor;

/// One colour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ink {
    /// What the style sheet calls it.
    pub name: &'static str,
    light: u32,
    dark: u32,
}

const fn ink(name: &'static str, light: u32, dark: u32) -> Ink {
    Ink { name, light, dark }
}

pub const RULE: Ink = ink("rule", 0xe7e6e1, 0x2b3036);
pub const AXIS: Ink = ink("axis", 0xc9c8c2, 0x464d55);
pub const LABEL: Ink = ink("label", 0x6b6f76, 0x9aa2ab);
pub const STRONG: Ink = ink("strong", 0x22262b, 0xe6e8eb);
pub const FIRST: Ink = ink("first", 0x2f6f9f, 0x69a9dc);
pub const SECOND: Ink = ink("second", 0xb9772a, 0xe0a458);
pub const ALARM: Ink = ink("alarm", 0xb43b52, 0xe67389);

/// The outcomes in their order, with their colours: what succeeded is calm, what belongs together has one hue.
pub const OUTCOMES: [Ink; 13] = [
    ink("success", 0x4c86b5, 0x5a97cc),
    ink("error", 0xb8364e, 0xe0607a),
    ink("no_result", 0xdc93a1, 0x9c4456),
    ink("invalid_input", 0xc79a1b, 0xd8b04a),
    ink("invalid_output", 0xe3cb84, 0x8a7030),
    ink("rejected", 0x6d5bae, 0x9c8ce0),
    ink("denied", 0xa34d9d, 0xd083ca),
    ink("timeout", 0xd4702a, 0xee9450),
    ink("memory_limit", 0x1c7f7a, 0x43b5ae),
    ink("output_limit", 0x5fb0aa, 0x2d8a85),
    ink("disk_limit", 0xa3d3cf, 0x1f635f),
    ink("crashed", 0x3c4148, 0xc6cbd1),
    ink("cancelled", 0xa4a9b0, 0x6d747d),
];

const OTHERS: [Ink; 7] = [RULE, AXIS, LABEL, STRONG, FIRST, SECOND, ALARM];

impl Ink {
    /// As plotters takes it.
    pub fn colour(self) -> RGBColor {
        let [_, red, green, blue] = self.light.to_be_bytes();
        RGBColor(red, green, blue)
    }
}

/// The rules of the style sheet for one scheme.
fn rules(colour: impl Fn(&Ink) -> u32, is_dark: bool) -> String {
    let mut css = String::from(":root{");
    for ink in OTHERS.iter().chain(&OUTCOMES) {
        let _ = write!(css, "--{}:#{:06x};", ink.name, colour(ink));
    }
    css.push('}');
    for ink in OTHERS.iter().chain(&OUTCOMES).filter(|_| is_dark) {
        // As plotters writes it.
        let (light, name) = (ink.light, ink.name);
        let _ = write!(css, "svg [fill=\"#{light:06X}\"]{{fill:var(--{name})}}");
        let _ = write!(css, "svg [stroke=\"#{light:06X}\"]{{stroke:var(--{name})}}");
    }
    css
}

/// The colours as a style sheet. Paper is always light.
pub fn style() -> String {
    let swatches: String =
        OTHERS.iter().chain(&OUTCOMES).map(|ink| format!(".ink-{0}{{background:var(--{0})}}", ink.name)).collect();
    let (light, dark) = (rules(|ink| ink.light, false), rules(|ink| ink.dark, true));
    format!("{light}\n@media screen and (prefers-color-scheme:dark){{{dark}}}\n{swatches}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use skillcache::Outcome;

    #[test]
    fn every_outcome_has_its_colour_in_its_place() {
        assert_eq!(OUTCOMES.map(|ink| ink.name), Outcome::ALL.map(Outcome::name));
    }

    #[test]
    fn no_two_colours_are_equal() {
        let mut light: Vec<u32> = OTHERS.iter().chain(&OUTCOMES).map(|ink| ink.light).collect();
        light.sort_unstable();
        light.dedup();
        assert_eq!(light.len(), OTHERS.len() + OUTCOMES.len());
    }
}
