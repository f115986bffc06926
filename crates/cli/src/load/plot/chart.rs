//! Lines between two axes, as SVG.

use std::fmt::Write as _;

use crate::load::report::Readable;

/// Lines between two axes.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Says what both axes are.
    pub title: String,
    /// From left to right.
    pub across: Axis,
    /// From below.
    pub upward: Axis,
    /// What is drawn; each has a colour of its own.
    pub lines: Vec<Line>,
}

/// A line, with its name if there are several.
#[derive(Debug, Clone)]
pub struct Line {
    /// Shown beside its colour.
    pub name: String,
    /// Across and upward, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// How numbers become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Even, from nought.
    FromZero,
    /// By powers of ten.
    Powers,
    /// Shares, by how few are left: 90 %, 99 %, 99.9 %.
    Shares,
}

const WIDTH: f64 = 430.0;
const PLOT_HEIGHT: f64 = 170.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 30.0;
const BELOW: f64 = 26.0;
const NAME_HEIGHT: f64 = 16.0;
const COLUMNS: usize = 2;

/// Colours that differ in brightness as well, and show on white and on black.
const COLOURS: [&str; 6] = [
    "#2f81d7", "#d9730d", "#2da44e", "#bf4bb8", "#b8860b", "#6e7781",
];

const STYLE: &str = "text{font:11px sans-serif;fill:#57606a}.title{font-weight:bold}\
    .grid{stroke:#8c959f;stroke-opacity:.35}.line{fill:none;stroke-width:2}\
    @media(prefers-color-scheme:dark){text{fill:#b1bac4}}";

impl Axis {
    /// Where a number lies, before it is fitted.
    fn place(self, value: f64) -> f64 {
        match self {
            Axis::FromZero => value,
            Axis::Powers => value.max(f64::MIN_POSITIVE).log10(),
            Axis::Shares => -(1.0 - value).log10(),
        }
    }

    /// Where it begins and ends, and what is marked on it, for these numbers.
    fn marks(self, values: impl Iterator<Item = f64> + Clone) -> (f64, f64, Vec<(f64, String)>) {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(f64::NEG_INFINITY, f64::max);
        match self {
            Axis::FromZero => {
                let step = step(most);
                let steps = (most / step).ceil().max(1.0);
                let marks = (0..=steps as usize).map(|n| n as f64 * step);
                let marks = marks.map(|value| (value, short(value)));
                (0.0, steps * step, marks.collect())
            }
            Axis::Powers => {
                let least = self.place(least).floor();
                let most = self.place(most).ceil().max(least + 1.0);
                let marks = (least as i32..=most as i32).map(|power| {
                    let value = 10f64.powi(power);
                    (f64::from(power), short(value))
                });
                (least, most, marks.collect())
            }
            Axis::Shares => {
                let marks = [0.5, 0.9, 0.99, 0.999, 0.9999];
                let marks: Vec<(f64, String)> = marks
                    .into_iter()
                    .filter(|share| *share <= most)
                    .map(|share| (self.place(share), format!("{} %", round(share * 100.0))))
                    .collect();
                (self.place(least), self.place(most), marks)
            }
        }
    }
}

/// A round step that gives some five marks.
fn step(most: f64) -> f64 {
    let rough = (most / 4.0).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|of| of * power);
    steps
        .into_iter()
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(10.0 * power)
}

/// Without the noise of binary fractions.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// A number on an axis: 250, 20 k, 5 M.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} M", round(v / 1e6)),
        v if v >= 1e4 => format!("{} k", round(v / 1e3)),
        v if v >= 1e3 => Readable(v).to_string(),
        v => round(v).to_string(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

impl Chart {
    fn height(&self) -> f64 {
        let named = self.lines.iter().filter(|line| !line.name.is_empty());
        TOP + PLOT_HEIGHT + BELOW + named.count() as f64 * NAME_HEIGHT + 8.0
    }

    /// Writes it, from its upper left corner.
    fn draw(&self, svg: &mut String) -> std::fmt::Result {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (left, right, across) = self.across.marks(points().map(|(x, _)| *x));
        let (low, high, upward) = self.upward.marks(points().map(|(_, y)| *y));
        let width = WIDTH - LEFT - RIGHT;
        let bottom = TOP + PLOT_HEIGHT;
        // All numbers may be the same.
        let fit = |at: f64, low: f64, high: f64| (at - low) / (high - low).max(f64::MIN_POSITIVE);
        let x = |place: f64| LEFT + width * fit(place, left, right);
        let y = |place: f64| bottom - PLOT_HEIGHT * fit(place, low, high);

        let title = escaped(&self.title);
        writeln!(svg, r#"<text class="title" x="4" y="16">{title}</text>"#)?;
        for (place, mark) in &upward {
            let (y, end) = (y(*place), WIDTH - RIGHT);
            writeln!(
                svg,
                r#"<path class="grid" d="M{LEFT} {y:.1}H{end}"/><text x="{:.1}" y="{:.1}" text-anchor="end">{mark}</text>"#,
                LEFT - 6.0,
                y + 4.0
            )?;
        }
        for (place, mark) in &across {
            let x = x(*place);
            writeln!(
                svg,
                r#"<path class="grid" d="M{x:.1} {TOP}V{bottom}"/><text x="{x:.1}" y="{:.1}" text-anchor="middle">{mark}</text>"#,
                bottom + 16.0
            )?;
        }
        for (n, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[n % COLOURS.len()];
            let places = line.points.iter().map(|(across, upward)| {
                (x(self.across.place(*across)), y(self.upward.place(*upward)))
            });
            let path: Vec<String> = places
                .clone()
                .map(|(x, y)| format!("{x:.1},{y:.1}"))
                .collect();
            let path = path.join(" ");
            writeln!(
                svg,
                r#"<polyline class="line" stroke="{colour}" points="{path}"/>"#
            )?;
            for ((x, y), (_, value)) in places.zip(&line.points) {
                let value = Readable(*value);
                writeln!(
                    svg,
                    r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"><title>{value}</title></circle>"#
                )?;
            }
            if !line.name.is_empty() {
                let at = bottom + BELOW + (n as f64 + 0.5) * NAME_HEIGHT;
                let name = escaped(&line.name);
                writeln!(
                    svg,
                    r#"<path class="line" stroke="{colour}" d="M{LEFT} {at:.1}h18"/><text x="{:.1}" y="{:.1}">{name}</text>"#,
                    LEFT + 24.0,
                    at + 4.0
                )?;
            }
        }
        Ok(())
    }
}

/// Charts side by side on one page.
pub fn page(charts: &[Chart]) -> String {
    let columns = COLUMNS.min(charts.len());
    let rows: Vec<f64> = charts
        .chunks(COLUMNS)
        .map(|row| row.iter().map(Chart::height).fold(0.0, f64::max))
        .collect();
    let (width, height) = (columns as f64 * WIDTH, rows.iter().sum::<f64>());
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">
<style>{STYLE}</style>
"#
    );
    let mut top = 0.0;
    for (row, height) in charts.chunks(COLUMNS).zip(rows) {
        for (n, chart) in row.iter().enumerate() {
            let left = n as f64 * WIDTH;
            svg.push_str(&format!("<g transform=\"translate({left} {top})\">\n"));
            chart.draw(&mut svg).expect("a string takes everything");
            svg.push_str("</g>\n");
        }
        top += height;
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(name: &str, points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "a < b".to_owned(),
            across: Axis::Powers,
            upward: Axis::FromZero,
            lines: vec![Line {
                name: name.to_owned(),
                points,
            }],
        }
    }

    #[test]
    fn points_lie_where_their_numbers_say() {
        let svg = page(&[chart(
            "x & y",
            vec![(10.0, 0.0), (100.0, 5.0), (1_000.0, 10.0)],
        )]);
        let bottom = TOP + PLOT_HEIGHT;
        let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
        let line = format!(
            "points=\"{LEFT:.1},{bottom:.1} {middle:.1},{:.1} {:.1},{TOP:.1}\"",
            TOP + PLOT_HEIGHT / 2.0,
            WIDTH - RIGHT
        );
        assert!(svg.contains(&line), "{svg}");
        assert!(
            svg.contains("a &lt; b") && svg.contains("x &amp; y"),
            "{svg}"
        );
    }

    #[test]
    fn a_line_of_equal_numbers_can_be_drawn() {
        for value in [0.0, 3.0] {
            let svg = page(&[chart("", vec![(10.0, value), (100.0, value)])]);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn steps_are_round() {
        assert_eq!(
            [7.0, 40.0, 95.0, 1_300.0].map(step),
            [2.0, 10.0, 25.0, 500.0]
        );
    }

    #[test]
    fn numbers_on_an_axis_are_short() {
        let shown = [0.1, 250.0, 2_500.0, 20_000.0, 5_000_000.0].map(short);
        assert_eq!(shown, ["0.1", "250", "2,500", "20 k", "5 M"]);
    }
}
