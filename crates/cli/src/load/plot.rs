//! Draws the figures of a run: how what is measured changes as something grows, and which share of the times was how
//! long. The pictures are plain SVG that can be read on light and on dark paper.

mod chart;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Deserialize;

use chart::{Axis, Chart, Line, page};

/// Figures that were measured.
#[derive(Debug, Args)]
pub struct Options {
    /// What `load bench` wrote, or `load grow --json` printed. Several are drawn as one.
    #[arg(required = true, value_name = "FILE")]
    figures: Vec<PathBuf>,
    /// Where the pictures go.
    #[arg(long, value_name = "FOLDER", default_value = "target")]
    out: PathBuf,
    /// Draws the times of those figures only whose names begin so. May be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// As much of a figure as is drawn.
#[derive(Debug, Clone, Deserialize)]
struct Figure {
    name: String,
    value: f64,
    unit: String,
    along: Option<Along>,
    #[serde(default)]
    times_ms: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, Deserialize)]
struct Along {
    curve: String,
    of: String,
    at: f64,
}

/// So many lines can be told from one another.
const LINES_MAX: usize = 6;
const TIMES: &str = "times.svg";
const GROWTH: &str = "growth.svg";

impl Options {
    /// Draws them, and says where the pictures are.
    ///
    /// # Errors
    /// When the figures can not be read, or there is nothing in them to draw.
    pub fn run(&self) -> Result<ExitCode> {
        let mut figures: Vec<Figure> = Vec::new();
        for file in &self.figures {
            let text = fs::read(file).with_context(|| file.display().to_string())?;
            let some: Vec<Figure> =
                serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
            figures.extend(some);
        }
        let wanted = |figure: &&Figure| {
            let mut names = self.only.iter();
            self.only.is_empty() || names.any(|name| figure.name.starts_with(name))
        };
        let pictures = [
            (TIMES, times(figures.iter().filter(wanted))),
            (GROWTH, growth(&figures)),
        ];
        fs::create_dir_all(&self.out).with_context(|| self.out.display().to_string())?;
        let mut drawn = 0;
        for (name, charts) in pictures {
            if charts.is_empty() {
                continue;
            }
            let file = self.out.join(name);
            fs::write(&file, page(&charts)).with_context(|| file.display().to_string())?;
            println!("{}", file.display());
            drawn += 1;
        }
        ensure!(drawn > 0, "there is nothing in these figures to draw");
        Ok(ExitCode::SUCCESS)
    }
}

/// The times of calls: as many charts as it takes, so that lines can be told apart.
fn times<'a>(figures: impl Iterator<Item = &'a Figure>) -> Vec<Chart> {
    let figures = figures.filter(|figure| figure.along.is_none() && figure.times_ms.len() > 1);
    let lines: Vec<Line> = figures
        .map(|figure| Line {
            name: figure.name.clone(),
            points: figure.times_ms.clone(),
        })
        .collect();
    lines
        .chunks(LINES_MAX)
        .map(|lines| Chart {
            title: "Milliseconds, and the share that took no longer".to_owned(),
            across: Axis::Shares,
            upward: Axis::Powers,
            lines: lines.to_vec(),
        })
        .collect()
}

/// One chart for each curve.
fn growth(figures: &[Figure]) -> Vec<Chart> {
    let mut curves: Vec<(String, Chart)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for figure in figures {
        let Some(along) = &figure.along else { continue };
        let place = *places.entry(along.curve.clone()).or_insert_with(|| {
            let title = format!("{}, {}, by {}", along.curve, figure.unit, along.of);
            let chart = Chart {
                title,
                across: Axis::Powers,
                upward: Axis::FromZero,
                lines: vec![Line {
                    name: String::new(),
                    points: Vec::new(),
                }],
            };
            curves.push((along.curve.clone(), chart));
            curves.len() - 1
        });
        let (_, chart) = &mut curves[place];
        chart.lines[0].points.push((along.at, figure.value));
    }
    let mut charts: Vec<Chart> = curves.into_iter().map(|(_, chart)| chart).collect();
    for chart in &mut charts {
        chart.lines[0].points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    // A single point is no curve.
    charts.retain(|chart| chart.lines[0].points.len() > 1);
    charts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, at: Option<f64>, value: f64) -> Figure {
        Figure {
            name: name.to_owned(),
            value,
            unit: "ms".to_owned(),
            along: at.map(|at| Along {
                curve: "start".to_owned(),
                of: "messages stored".to_owned(),
                at,
            }),
            times_ms: vec![(0.5, 1.0), (0.99, 20.0)],
        }
    }

    #[test]
    fn a_curve_goes_through_its_points_in_order() {
        let figures = [
            figure("large", Some(1e6), 9.0),
            figure("small", Some(1e4), 3.0),
            figure("something else", None, 1.0),
        ];
        let charts = growth(&figures);
        assert_eq!(charts.len(), 1);
        assert_eq!(charts[0].title, "start, ms, by messages stored");
        assert_eq!(charts[0].lines[0].points, [(1e4, 3.0), (1e6, 9.0)]);
        assert!(growth(&figures[..1]).is_empty());
    }

    #[test]
    fn many_lines_are_spread_over_charts() {
        let figures: Vec<Figure> = (0..8)
            .map(|n| figure(&format!("load {n}"), None, 1.0))
            .collect();
        let charts = times(figures.iter());
        let lines: Vec<usize> = charts.iter().map(|chart| chart.lines.len()).collect();
        assert_eq!(lines, [6, 2]);
    }

    #[test]
    fn what_a_run_writes_can_be_drawn() {
        let written = crate::load::report::Figure::of("direct", "messages/s", vec![7.0]).unwrap();
        let text = serde_json::to_string(&[written]).unwrap();
        let read: Vec<Figure> = serde_json::from_str(&text).unwrap();
        assert_eq!(read[0].name, "direct");
        assert!(read[0].times_ms.is_empty());
    }
}
