//! The drawings, as inline SVG: bars by day, strips of latencies, curves over time.
//!
//! Each is drawn twice, broad and narrow, in the sizes at which it is shown, so that its letters are as large as the page's on a desk and on a phone;
//! the style sheet shows one of them. A drawing has numbers, times and words of ours in it, and nothing from outside.

use std::error::Error;
use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::clock;
use crate::ink::{self, Ink};
use crate::markup::escape;
use crate::units;

pub type Drawn = Result<String, Box<dyn Error>>;
type Sheet<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// An axis whose marks are where we want them.
struct Axis {
    range: RangedCoordf64,
    marks: Vec<f64>,
}

impl Axis {
    fn new(range: Range<f64>, marks: Vec<f64>) -> Self {
        Axis { range: range.into(), marks }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.range.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // There are no lines between those that are marked.
        if hint.weight().allow_light_points() { Vec::new() } else { self.marks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.range()
    }
}

/// Plotters counts in whole units: so many of them are one pixel of the page, which keeps curves smooth.
const FINE: i32 = 8;
/// The size of letters, in pixels of the page.
const LETTERS: i32 = 11;
/// About how wide one of them is, in most fonts at most.
const LETTER: i32 = 7;
/// The least room for the names on the vertical axis: mostly all of them fit, and charts begin at one line.
const LEFT: i32 = 44;
/// What plotters divides sizes of letters by when it writes SVG.
const PLOTTERS_LETTERS: f64 = 1.24;

/// The size of a drawing, in pixels of the page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    pub width: i32,
    pub height: i32,
}

/// One of three beside each other on a desk, or all of the width of a phone.
pub const CELL: Frame = Frame { width: 336, height: 180 };

/// All of the width of a desk.
const fn broad(height: i32) -> Frame {
    Frame { width: 1056, height }
}

fn fine(pixels: i32) -> i32 {
    pixels * FINE
}

fn fine_u32(pixels: i32) -> u32 {
    fine(pixels).unsigned_abs()
}

fn letters(colour: Ink) -> TextStyle<'static> {
    let font = ("sans-serif", f64::from(fine(LETTERS)) * PLOTTERS_LETTERS).into_font();
    TextStyle { color: colour.colour().to_backend_color(), ..TextStyle::from(font) }
}

fn line(colour: Ink, pixels: f64) -> ShapeStyle {
    let width = (pixels * f64::from(FINE)).round() as u32;
    ShapeStyle { color: colour.colour().to_rgba(), filled: false, stroke_width: width }
}

/// Draws what `paint` paints. `words` are the title and the description, for those who cannot see it.
fn svg(
    frame: Frame,
    class: &str,
    words: (&str, &str),
    paint: impl FnOnce(&Sheet) -> Result<String, Box<dyn Error>>,
) -> Drawn {
    let mut drawing = String::new();
    let size = (fine_u32(frame.width), fine_u32(frame.height));
    let on_top = {
        let sheet = SVGBackend::with_string(&mut drawing, size).into_drawing_area();
        let on_top = paint(&sheet)?;
        sheet.present()?;
        on_top
    };
    let start = drawing.find('>').map_or(0, |at| at + 1);
    let end = drawing.rfind("</svg>").unwrap_or(drawing.len());
    // What says nothing: the letters are the page's, and opaque is what things are.
    let body = drawing[start..end]
        .replace(" font-family=\"sans-serif\"", "")
        .replace(" opacity=\"1\"", "")
        .replace(" stroke=\"none\"", "")
        .replace(">\n", ">")
        .replace("\n</text>", "</text>");
    let (width, height) = size;
    let (title, description) = words;
    Ok(format!(
        "<svg class=\"{class}\" role=\"img\" width=\"{1}\" height=\"{2}\" viewBox=\"0 0 {width} {height}\">\
         <title>{0}</title><desc>{3}</desc>{body}{on_top}</svg>",
        escape(title),
        frame.width,
        frame.height,
        escape(description),
    ))
}

/// Both sizes of a drawing.
fn both(frames: [Frame; 2], draw: impl Fn(Frame, &str) -> Drawn) -> Drawn {
    Ok(draw(frames[0], "broad")? + &draw(frames[1], "narrow")?)
}

/// The step of 1, 2 or 5 times a power of ten that divides `most` into at most `parts`.
fn round_step(most: f64, parts: f64) -> f64 {
    let least = most / parts;
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= least * 0.999).unwrap_or(least)
}

/// A vertical axis from nothing to at least `most`, with its marks.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    top: f64,
    marks: Vec<f64>,
}

impl Scale {
    fn in_steps(step: f64, most: f64) -> Self {
        let steps = (most / step).ceil().max(1.0);
        Scale { top: steps * step, marks: (0..=steps as u32).map(|mark| f64::from(mark) * step).collect() }
    }

    /// For numbers that may have fractions.
    pub fn of(most: f64) -> Self {
        let most = if most.is_finite() && most > 1e-9 { most.min(1e15) } else { 1.0 };
        Self::in_steps(round_step(most, 4.0), most)
    }

    /// For things that are counted.
    pub fn of_whole(most: f64) -> Self {
        let most = if most.is_finite() { most.clamp(1.0, 1e15) } else { 1.0 };
        Self::in_steps(round_step(most, 4.0).max(1.0), most)
    }

    /// For shares of 0 to 1; a cache never exceeds its bound.
    pub fn of_shares() -> Self {
        Self::in_steps(0.25, 1.0)
    }
}

/// The axes, with lines across where the vertical one has its marks.
fn plane<'a, 'b>(
    sheet: &'a Sheet<'b>,
    right: i32,
    (x, x_label): (Axis, &dyn Fn(&f64) -> String),
    (y, y_label): (&Scale, &dyn Fn(&f64) -> String),
) -> Result<Plane<'a, 'b>, Box<dyn Error>> {
    let vertical = Axis::new(0.0..y.top, y.marks.clone());
    let longest = y.marks.iter().map(|mark| y_label(mark).chars().count()).max().unwrap_or(0);
    let left = i32::try_from(longest).map_or(LEFT, |letters| LEFT.max(letters * LETTER + 8));
    let mut plane = ChartBuilder::on(sheet)
        .margin_top(fine(8))
        .margin_right(fine(right))
        .x_label_area_size(fine(20))
        .y_label_area_size(fine(left))
        .build_cartesian_2d(x, vertical)?;
    plane
        .configure_mesh()
        .disable_x_mesh()
        // The one line that is wanted of them is drawn below.
        .axis_style(TRANSPARENT)
        .bold_line_style(line(ink::RULE, 1.0))
        .light_line_style(TRANSPARENT)
        .set_all_tick_mark_size(fine(3))
        .label_style(letters(ink::LABEL))
        .x_label_formatter(x_label)
        .y_label_formatter(y_label)
        .draw()?;
    let across = plane.as_coord_spec().get_x_range();
    plane.draw_series([PathElement::new([(across.start, 0.0), (across.end, 0.0)], line(ink::AXIS, 1.0))])?;
    Ok(plane)
}

/// The runs of one day (counted from 1970), by outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Day {
    pub day: i64,
    pub counts: [f64; ink::OUTCOMES.len()],
}

impl Day {
    fn total(&self) -> f64 {
        self.counts.iter().sum()
    }

    fn words(&self) -> String {
        let parts = self.counts.iter().zip(&ink::OUTCOMES).filter(|(count, _)| **count > 0.0);
        let parts: Vec<String> = parts.map(|(count, ink)| format!("{} {}", units::count(*count), ink.name)).collect();
        format!("{}: {}", clock::day_text(self.day), parts.join(", "))
    }
}

/// One bar for each day of `first..=last`, with its outcomes above one another.
pub fn days(days: &[Day], (first, last): (i64, i64), words: (&str, &str)) -> Drawn {
    both([broad(260), Frame { height: 240, ..CELL }], |frame, class| {
        svg(frame, class, words, |sheet| {
            let scale = Scale::of_whole(days.iter().map(Day::total).fold(0.0, f64::max));
            let marks = clock::day_marks(first, last, frame.width / 80);
            let marks = marks.iter().map(|day| *day as f64 + 0.5).collect();
            let across = Axis::new(first as f64..last as f64 + 1.0, marks);
            let name = |day: &f64| clock::short_day(day.floor() as i64);
            let plane = plane(sheet, 16, (across, &name), (&scale, &|y| units::count(*y)))?;
            days.iter().map(|day| bar(sheet, &plane, day)).collect()
        })
    })
}

/// Draws one bar; returns what shows its numbers when pointed at.
fn bar(sheet: &Sheet, plane: &Plane, day: &Day) -> Drawn {
    let place = |x: f64, y: f64| plane.plotting_area().map_coordinate(&(x, y));
    let (from, ground) = place(day.day as f64, 0.0);
    let (to, top) = place(day.day as f64 + 1.0, day.total().clamp(0.0, plane.y_range().end));
    let (middle, half) = ((from + to) / 2, ((to - from) * 7 / 20).clamp(FINE / 2, fine(18)));
    let mut base = ground;
    for (tall, colour) in
        heights(&day.counts, ground - top).into_iter().zip(ink::OUTCOMES).filter(|(tall, _)| *tall > 0)
    {
        // What is tall enough stands apart from what it stands on.
        let gap = if base < ground && tall > fine(4) { FINE / 2 } else { 0 };
        let corners = [(middle - half, base - tall), (middle + half, base - gap)];
        sheet.draw(&Rectangle::new(corners, colour.colour().filled()))?;
        base -= tall;
    }
    let (width, words) = (to - from, escape(&day.words()));
    Ok(format!(
        "<rect class=\"hit\" x=\"{from}\" y=\"0\" width=\"{width}\" height=\"{ground}\"><title>{words}</title></rect>"
    ))
}

/// How tall the parts of a bar are. A single failure among thousands is still to be seen: what it has too much, the tallest part lends, so that
/// the bar is as tall as it should be.
fn heights(counts: &[f64], all: i32) -> Vec<i32> {
    let total: f64 = counts.iter().sum();
    let least = |count: &f64| if *count > 0.0 { fine(3) / 2 } else { 0 };
    let mut heights: Vec<i32> =
        counts.iter().map(|count| ((count / total * f64::from(all)).round() as i32).max(least(count))).collect();
    let lent = heights.iter().sum::<i32>() - all;
    if let Some(tallest) = heights.iter_mut().max() {
        *tallest = (*tallest - lent).max(fine(3) / 2);
    }
    heights
}

/// Parts of the tallest bar that are smaller than this are drawn thicker than they are.
pub const THIN: f64 = 0.007;

/// How long something took, each time it was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Strip {
    pub name: &'static str,
    /// What is written beside the name.
    pub note: String,
    /// From how many, up to how many microseconds; and which share of all took so long.
    pub shares: Vec<(f64, f64, f64)>,
    /// Where to draw lines: percentiles, in microseconds.
    pub lines: Vec<f64>,
}

/// Strips below one another, on one logarithmic axis.
pub fn strips(strips: &[Strip], words: (&str, &str)) -> Drawn {
    let used = strips.iter().flat_map(|strip| strip.shares.iter().filter(|(_, _, share)| *share > 0.0));
    let (low, high) = used.fold((f64::MAX, f64::MIN), |(low, high), (from, to, _)| (low.min(*from), high.max(*to)));
    // What takes less than a microsecond is counted as one: there is no decade before it.
    let low = if low < 1.0 { low.log10() } else { low.log10().floor() };
    let (low, high) = if high > 0.0 { (low, high.log10().ceil().max(low + 1.0)) } else { (0.0, 8.0) };
    let count = i32::try_from(strips.len()).unwrap_or(1);
    both([broad(82 * count + 20), Frame { height: 82 * count + 20, ..CELL }], |frame, class| {
        svg(frame, class, words, |sheet| {
            let (rows, axis) = sheet.split_vertically(fine(82 * count));
            for (strip, row) in strips.iter().zip(rows.split_evenly((strips.len(), 1))) {
                one_strip(&row, strip, (low, high))?;
            }
            decades(&axis, (low, high), frame.width)?;
            Ok(String::new())
        })
    })
}

/// Where microseconds are on the axis of a strip.
fn place_of(micros: f64, (low, high): (f64, f64), width: i32) -> i32 {
    let (left, right) = (fine(4), width - fine(4));
    left + ((micros.max(1e-3).log10() - low) / (high - low) * f64::from(right - left)).round() as i32
}

fn one_strip(row: &Sheet, strip: &Strip, range: (f64, f64)) -> Result<(), Box<dyn Error>> {
    let (width, height) = row.dim_in_pixel();
    let (width, ground) = (width as i32, height as i32 - fine(2));
    let room = ground - fine(34);
    let tallest = strip.shares.iter().map(|(_, _, share)| *share).fold(0.0, f64::max);
    let below = |anchor| Pos::new(anchor, VPos::Top);
    row.draw(&Text::new(strip.name, (fine(4), fine(10)), letters(ink::STRONG).pos(below(HPos::Left))))?;
    let note = letters(ink::LABEL).pos(below(HPos::Right));
    row.draw(&Text::new(strip.note.as_str(), (width - fine(4), fine(10)), note))?;
    for (from, to, share) in strip.shares.iter().filter(|(_, _, share)| *share > 0.0) {
        let (left, right) = (place_of(*from, range, width), place_of(*to, range, width) - fine(1));
        let tall = ((share / tallest * f64::from(room)) as i32).max(FINE);
        row.draw(&Rectangle::new([(left, ground - tall), (right, ground)], ink::FIRST.colour().filled()))?;
    }
    for micros in &strip.lines {
        let at = place_of(*micros, range, width);
        row.draw(&PathElement::new([(at, ground - room - fine(4)), (at, ground)], line(ink::STRONG, 1.0)))?;
    }
    row.draw(&PathElement::new([(fine(4), ground), (width - fine(4), ground)], line(ink::AXIS, 1.0)))?;
    Ok(())
}

/// The names of the powers of ten, as many as there is room for.
fn decades(axis: &Sheet, range: (f64, f64), width: i32) -> Result<(), Box<dyn Error>> {
    let (low, high) = (range.0.ceil() as i32, range.1 as i32);
    let every = usize::try_from((high - low) * 44 / width + 1).unwrap_or(1);
    for decade in (low..=high).step_by(every) {
        let micros = 10f64.powi(decade);
        let number = units::micros(micros).replace(".00", "").replace(".0", "");
        let side = match decade {
            first if f64::from(first) == range.0 => HPos::Left,
            last if f64::from(last) == range.1 => HPos::Right,
            _ => HPos::Center,
        };
        let at = (place_of(micros, range, fine(width)), fine(6));
        axis.draw(&Text::new(number, at, letters(ink::LABEL).pos(Pos::new(side, VPos::Top))))?;
    }
    Ok(())
}

/// One line of a chart over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    pub ink: Ink,
    /// Seconds since 1970, and what it was then; nothing where nothing is known.
    pub points: Vec<(f64, Option<f64>)>,
    /// Whether what is below it is tinted.
    pub is_filled: bool,
}

/// Curves on one axis of time.
pub fn curves(
    curves: &[Curve],
    (from, to): (f64, f64),
    (scale, name): (&Scale, &dyn Fn(&f64) -> String),
    bound: Option<f64>,
    words: (&str, &str),
) -> Drawn {
    svg(CELL, "cell", words, |sheet| {
        let to = to.max(from + 1.0);
        let (marks, form) = clock::time_marks(from, to, 4);
        let across = Axis::new(from..to, marks);
        let time = |seconds: &f64| form.text(*seconds);
        let mut plane = plane(sheet, 20, (across, &time), (scale, name))?;
        for curve in curves {
            for piece in curve.points.split(|(_, value)| value.is_none()).filter(|piece| !piece.is_empty()) {
                let points = piece.iter().map(|(time, value)| (*time, value.unwrap_or(0.0).clamp(0.0, scale.top)));
                draw_piece(&mut plane, curve, points.collect())?;
            }
        }
        if let Some(bound) = bound.filter(|bound| (0.0..=scale.top).contains(bound)) {
            let dash = line(ink::ALARM, 1.0);
            plane.draw_series(DashedLineSeries::new([(from, bound), (to, bound)], fine_u32(3), fine_u32(3), dash))?;
        }
        Ok(String::new())
    })
}

/// Draws points that follow one another without a gap.
fn draw_piece(plane: &mut Plane, curve: &Curve, points: Vec<(f64, f64)>) -> Result<(), Box<dyn Error>> {
    if let [alone] = points[..] {
        plane.draw_series([Circle::new(alone, fine(2), curve.ink.colour().filled())])?;
        return Ok(());
    }
    if curve.is_filled {
        plane.draw_series(AreaSeries::new(points.iter().copied(), 0.0, curve.ink.colour().mix(0.14)))?;
    }
    plane.draw_series(LineSeries::new(points, line(curve.ink, 1.6)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: (&str, &str) = ("<title>", "what \"it\" shows");

    fn day(day: i64, success: f64, error: f64) -> Day {
        let mut counts = [0.0; ink::OUTCOMES.len()];
        counts[..2].copy_from_slice(&[success, error]);
        Day { day, counts }
    }

    #[test]
    fn scales_end_on_round_numbers() {
        assert_eq!(Scale::of(7.3), Scale { top: 8.0, marks: vec![0.0, 2.0, 4.0, 6.0, 8.0] });
        assert_eq!(Scale::of_whole(2.0), Scale { top: 2.0, marks: vec![0.0, 1.0, 2.0] });
        assert_eq!(Scale::of_whole(0.0), Scale { top: 1.0, marks: vec![0.0, 1.0] });
        for odd in [0.0, -3.0, 1e-300, 1e300, f64::NAN, f64::INFINITY] {
            let (scale, whole) = (Scale::of(odd), Scale::of_whole(odd));
            assert!(scale.top.is_finite() && scale.top > 0.0 && scale.marks.len() <= 6, "{odd}: {scale:?}");
            assert!(whole.top.is_finite() && whole.top >= 1.0 && whole.marks.len() <= 6, "{odd}: {whole:?}");
        }
    }

    #[test]
    fn every_drawing_says_what_it_is_and_refers_to_nothing() {
        let drawing = days(&[day(20_000, 9.0, 1.0)], (20_000, 20_000), WORDS).expect("drawn");
        assert_eq!(drawing.matches("role=\"img\"").count(), 2);
        assert!(drawing.contains("<title>&lt;title&gt;</title><desc>what &quot;it&quot; shows</desc>"), "{drawing}");
        assert!(!drawing.contains("http") && !drawing.contains("href"), "{drawing}");
    }

    #[test]
    fn a_single_failure_among_thousands_is_seen_and_named() {
        let drawing = days(&[day(20_000, 1e6, 1.0)], (19_990, 20_000), WORDS).expect("drawn");
        let red = format!("height=\"{}\" fill=\"#B8364E\"", fine(3) / 2);
        assert_eq!(drawing.matches(&red).count(), 2, "{drawing}");
        assert!(drawing.contains("<title>4 October 2024: 1,000,000 success, 1 error</title>"), "{drawing}");
    }

    #[test]
    fn a_bar_is_as_tall_as_its_sum() {
        let least = fine(3) / 2;
        assert_eq!(heights(&[1e6, 1.0, 0.0, 1.0], 1_000), [1_000 - 2 * least, least, 0, least]);
        assert_eq!(heights(&[1.0, 3.0], 1_000), [250, 750]);
        assert_eq!(heights(&[1.0, 1.0], 10), [least, least], "too small for all: then taller");
    }

    #[test]
    fn gaps_are_not_bridged() {
        let points = [0.0, 1.0, 2.0, 3.0, 4.0].map(|at| (at, (at != 2.0).then_some(at)));
        let curve = Curve { ink: ink::FIRST, points: points.to_vec(), is_filled: false };
        let name = |value: &f64| units::count(*value);
        let drawing = curves(&[curve], (0.0, 4.0), (&Scale::of(4.0), &name), Some(3.0), WORDS).expect("drawn");
        assert_eq!(drawing.matches("<polyline fill=\"none\" stroke=\"#2F6F9F\"").count(), 2, "{drawing}");
        assert!(drawing.contains("#B43B52"), "{drawing}");
    }

    #[test]
    fn what_is_beyond_any_range_is_drawn_all_the_same() {
        let name = |value: &f64| units::count(*value);
        for odd in [1e308, -1e308, 0.0] {
            let curve = Curve { ink: ink::FIRST, points: vec![(0.0, Some(odd)), (1.0, Some(odd))], is_filled: true };
            curves(&[curve], (0.0, 0.0), (&Scale::of(odd), &name), Some(odd), WORDS).expect("drawn");
            let strip = Strip { name: "a", note: String::new(), shares: vec![(1.0, 2.0, odd)], lines: vec![odd] };
            strips(&[strip], WORDS).expect("drawn");
            days(&[day(1, odd, 0.0)], (1, 1), WORDS).expect("drawn");
        }
    }
}
