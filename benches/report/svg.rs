//! Plots, drawn with no more than rectangles, lines and text.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const LINE: f64 = 15.0;
const TOP: f64 = 52.0;
/// What a letter takes, about.
const LETTER: f64 = 6.6;

/// Ours, and the others; a shade for each series.
const OURS: [&str; 3] = ["#0b5394", "#4f8fcb", "#a9cbea"];
const OTHERS: [&str; 3] = ["#666666", "#9c9c9c", "#cfcfcf"];

/// Bars that lie, some for each line.
#[derive(Clone, Debug)]
pub struct Bars {
    pub title: String,
    /// What the bars of a line are. One needs no name.
    pub series: Vec<String>,
    /// A name, and a bar for each series, where there is a number.
    pub rows: Vec<(String, Vec<Option<f64>>)>,
}

/// Lines over named places.
#[derive(Clone, Debug)]
pub struct Lines {
    pub title: String,
    pub places: Vec<String>,
    pub rows: Vec<(String, Vec<Option<f64>>)>,
}

/// Whether it is slabpool that is measured.
fn is_ours(name: &str) -> bool {
    name.starts_with("slabpool")
}

impl Bars {
    /// The picture.
    pub fn draw(&self) -> String {
        let names = self.rows.iter().map(|(name, _)| name.chars().count());
        let left = names.max().unwrap_or_default() as f64 * LETTER + 16.0;
        let most =
            self.rows.iter().flat_map(|(_, bars)| bars).flatten().fold(0.0, |a: f64, b| a.max(*b));
        // The number stands behind the bar.
        let scale = (WIDTH - left - 70.0) / most.max(f64::MIN_POSITIVE);
        let step = self.series.len().max(1) as f64 * LINE + 9.0;
        let height = TOP + self.rows.len() as f64 * step + 8.0;
        let mut picture = Picture::new(&self.title, height);
        if self.series.len() > 1 {
            picture.legend(&self.series);
        }
        for (place, (name, bars)) in self.rows.iter().enumerate() {
            let top = TOP + place as f64 * step;
            let middle = top + bars.len() as f64 * LINE / 2.0 + 4.0;
            picture.text(left - 8.0, middle, "end", name, is_ours(name));
            let shades = if is_ours(name) { OURS } else { OTHERS };
            for (n, bar) in bars.iter().enumerate() {
                let (y, Some(bar)) = (top + n as f64 * LINE, bar) else { continue };
                picture.bar(left, y, bar * scale, shades[n % shades.len()]);
                picture.text(left + bar * scale + 5.0, y + 11.0, "start", &short(*bar), false);
            }
        }
        picture.end()
    }
}

impl Lines {
    /// The picture. Each step upwards is ten times as much.
    pub fn draw(&self) -> String {
        const LEFT: f64 = 84.0;
        const HEIGHT: f64 = 300.0;
        const PALETTE: [&str; 8] = [
            "#0b5394", "#cc4125", "#38761d", "#b45f06", "#674ea7", "#45818e", "#a64d79", "#666666",
        ];
        let values = || self.rows.iter().flat_map(|(_, values)| values).flatten();
        let low = values().fold(f64::INFINITY, |a: f64, b| a.min(*b)).max(1.0).log10().floor();
        let high = values().fold(10.0, |a: f64, b| a.max(*b)).log10().ceil();
        let bottom = TOP + HEIGHT;
        let y = |value: f64| bottom - (value.max(1.0).log10() - low) / (high - low) * HEIGHT;
        let step = (WIDTH - LEFT - 40.0) / (self.places.len().max(2) - 1) as f64;
        let x = |place: usize| LEFT + place as f64 * step;
        let height = bottom + 36.0 + self.rows.len() as f64 * LINE;
        let mut picture = Picture::new(&self.title, height);
        for power in low as i32..=high as i32 {
            let value = 10_f64.powi(power);
            let across = [(LEFT, y(value)), (x(self.places.len() - 1), y(value))];
            picture.line(&across, "#dddddd", false);
            picture.text(LEFT - 8.0, y(value) + 4.0, "end", &short(value), false);
        }
        for (place, name) in self.places.iter().enumerate() {
            picture.text(x(place), bottom + 18.0, "middle", name, false);
        }
        for (n, (name, values)) in self.rows.iter().enumerate() {
            let color = PALETTE[n % PALETTE.len()];
            let points = values.iter().enumerate();
            let points: Vec<_> = points.filter_map(|(n, v)| Some((x(n), y((*v)?)))).collect();
            // When the colours are used up, they come again with dashes.
            let is_dashed = n >= PALETTE.len();
            picture.line(&points, color, is_dashed);
            let legend = bottom + 36.0 + n as f64 * LINE;
            let sample = [(LEFT, legend - 4.0), (LEFT + 24.0, legend - 4.0)];
            picture.line(&sample, color, is_dashed);
            picture.text(LEFT + 32.0, legend, "start", name, false);
        }
        picture.end()
    }
}

/// Three digits of it, or all before the point.
fn short(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// What is drawn so far.
struct Picture(String);

impl Picture {
    fn new(title: &str, height: f64) -> Self {
        let mut picture = Self(String::new());
        picture.add(format_args!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" font-family="sans-serif" font-size="12">"#
        ));
        picture.add(format_args!(r##"<rect width="100%" height="100%" fill="#ffffff"/>"##));
        picture.text(16.0, 22.0, "start", title, true);
        picture
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{element}").expect("memory suffices");
    }

    /// In the shades of the others; ours come in the same order.
    fn legend(&mut self, series: &[String]) {
        let mut x = 16.0;
        for (n, name) in series.iter().enumerate() {
            self.bar(x, 32.0, 11.0, OURS[n % OURS.len()]);
            self.bar(x + 12.0, 32.0, 11.0, OTHERS[n % OTHERS.len()]);
            self.text(x + 29.0, 43.0, "start", name, false);
            x += 50.0 + name.chars().count() as f64 * LETTER;
        }
    }

    fn bar(&mut self, x: f64, y: f64, width: f64, color: &str) {
        let height = LINE - 2.0;
        self.add(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{color}"/>"#
        ));
    }

    fn line(&mut self, points: &[(f64, f64)], color: &str, is_dashed: bool) {
        let dashes = if is_dashed { "5 3" } else { "none" };
        let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        self.add(format_args!(
            r#"<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5" stroke-dasharray="{dashes}"/>"#
        ));
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str, is_bold: bool) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let weight = if is_bold { "bold" } else { "normal" };
        self.add(format_args!(
            r##"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-weight="{weight}" fill="#222222">{text}</text>"##
        ));
    }

    fn end(mut self) -> String {
        self.add(format_args!("</svg>"));
        self.0
    }
}
