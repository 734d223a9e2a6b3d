//! Numbers as a person reads them: with a unit, and with no more digits than say something. None of it needs escaping in HTML.

/// Keeps a number and its unit on one line.
const GAP: char = '\u{202f}';

/// Three significant digits, or all of them before the point.
fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 99.95 => grouped(number),
        size if size >= 9.995 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// A whole number with its thousands apart: `12,345`.
fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = if number <= -0.5 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many: `12,345`, from ten millions on `12.3 million`.
pub fn count(number: f64) -> String {
    match number.abs() {
        size if size >= 999.5e9 => format!("{number:.2e}"),
        size if size >= 1e9 => format!("{}{GAP}billion", short(number / 1e9)),
        size if size >= 1e7 => format!("{}{GAP}million", short(number / 1e6)),
        _ => grouped(number),
    }
}

/// A share of 0 to 1: `93.4 %`. Only what is all of it reads 100 %, and only what is nothing reads 0 %.
pub fn share(ratio: f64) -> String {
    let percent = ratio * 100.0;
    match percent {
        0.0 | 100.0 => format!("{percent:.0}{GAP}%"),
        under if under > 0.0 && under < 0.05 => format!("under 0.1{GAP}%"),
        over if (99.95..100.0).contains(&over) => format!("over 99.9{GAP}%"),
        _ => format!("{percent:.1}{GAP}%"),
    }
}

/// A time of this many microseconds: `850 µs`, `1.24 ms`, `3.50 s`.
pub fn micros(micros: f64) -> String {
    let (number, unit) = match micros {
        small if small < 999.5 => (small, "µs"),
        middle if middle < 999_500.0 => (middle / 1e3, "ms"),
        large => (large / 1e6, "s"),
    };
    // Counted in whole microseconds, so a fraction of one would be made up; means have one.
    let text = if unit == "µs" && number.fract() == 0.0 { grouped(number) } else { short(number) };
    format!("{text}{GAP}{unit}")
}

/// A size: `850 B`, `1.24 KiB`, `3.50 GiB`.
pub fn bytes(bytes: f64) -> String {
    if bytes < 1023.5 {
        return format!("{}{GAP}B", grouped(bytes));
    }
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut number = bytes / 1024.0;
    let mut unit = 0;
    while number >= 1023.5 && unit + 1 < units.len() {
        number /= 1024.0;
        unit += 1;
    }
    format!("{}{GAP}{}", short(number), units[unit])
}

/// A size that is given in MiB.
pub fn mebibytes(mebibytes: f64) -> String {
    bytes(mebibytes * 1_048_576.0)
}

/// A time of this many seconds, in its two largest units: `2 d 3 h`, `12 min 5 s`.
pub fn span(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1}{GAP}s");
    }
    let whole = seconds.round();
    let parts = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s")];
    let first = parts.iter().position(|(size, _)| whole >= *size).unwrap_or(parts.len() - 1);
    let mut left = whole;
    let mut text = String::new();
    for (size, unit) in parts.iter().skip(first).take(2) {
        let number = (left / size).floor();
        left -= number * size;
        if number > 0.0 {
            let apart = if text.is_empty() { "" } else { " " };
            text.push_str(&format!("{apart}{}{GAP}{unit}", grouped(number)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: String) -> String {
        text.replace(GAP, " ")
    }

    #[test]
    fn counts_are_grouped_and_large_ones_named() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (999.0, "999"),
            (-1_000.0, "-1,000"),
            (1_234_567.0, "1,234,567"),
            (12_345_678.0, "12.3 million"),
            (2.5e9, "2.50 billion"),
            (1e300, "1.00e300"),
        ] {
            assert_eq!(plain(count(number)), text);
        }
    }

    #[test]
    fn shares_are_all_or_nothing_only_when_they_are() {
        for (ratio, text) in [
            (0.0, "0 %"),
            (0.0001, "under 0.1 %"),
            (0.0005, "0.1 %"),
            (0.934, "93.4 %"),
            (0.99999, "over 99.9 %"),
            (1.0, "100 %"),
            (1.5, "150.0 %"),
        ] {
            assert_eq!(plain(share(ratio)), text);
        }
    }

    #[test]
    fn times_have_three_digits_and_round_into_the_next_unit() {
        for (number, text) in [
            (0.0, "0 µs"),
            (2.375, "2.38 µs"),
            (850.0, "850 µs"),
            (999.7, "1.00 ms"),
            (41_240.0, "41.2 ms"),
            (999_600.0, "1.00 s"),
            (5_000_000_000.0, "5,000 s"),
        ] {
            assert_eq!(plain(micros(number)), text);
        }
        for (seconds, text) in
            [(0.25, "0.2 s"), (59.6, "1 min"), (725.0, "12 min 5 s"), (3_600.0, "1 h"), (183_600.0, "2 d 3 h")]
        {
            assert_eq!(plain(span(seconds)), text);
        }
    }

    #[test]
    fn sizes_are_binary() {
        for (number, text) in
            [(850.0, "850 B"), (1_270.0, "1.24 KiB"), (1_048_575.0, "1.00 MiB"), (1e18, "909,495 TiB")]
        {
            assert_eq!(plain(bytes(number)), text);
        }
        assert_eq!(plain(mebibytes(3_584.0)), "3.50 GiB");
    }
}
