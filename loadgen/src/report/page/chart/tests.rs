//! Charts as a browser gets them: whatever is drawn is visible, and lies inside the drawing.

use scraper::{Html, Selector};

use super::*;
use crate::plan::draws::Draws;

const SIZE: Size = Size { width: 400, height: 280, x_ticks: 4, y_ticks: 5 };

fn chart(x: Scale, y: Scale, lines: &[&[(f64, f64)]]) -> Chart {
    let lines = lines.iter().map(|points| Line { name: "a line", points: points.to_vec() }).collect();
    let caption = String::new();
    Chart { title: "a chart", caption, x, y, lines, marks: Vec::new(), stretch: None, measured: None }
}

/// The shapes of a drawing, and where they are.
#[derive(Default, Debug)]
struct Drawing {
    /// The points of each line in a line's colour.
    lines: Vec<Vec<(f64, f64)>>,
    dots: Vec<(f64, f64)>,
    /// The parts of the time that are shaded: from and to.
    shades: Vec<(f64, f64)>,
    /// The numbers of marks.
    marks: Vec<String>,
    everything: Vec<(f64, f64)>,
}

fn drawn(chart: &Chart) -> Drawing {
    let svg = chart.svg(SIZE).expect("a drawing");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    let page = Html::parse_fragment(&svg);
    let all = |selector: &str| page.select(&Selector::parse(selector).expect("a selector")).collect::<Vec<_>>();
    let mut drawing = Drawing::default();
    for shape in all("polyline, circle, rect, text, line") {
        let number = |name: &str| shape.attr(name).and_then(|text| text.parse::<f64>().ok());
        let pair = |x: &str, y: &str| number(x).zip(number(y));
        let points = shape.attr("points").unwrap_or_default().split_whitespace().filter_map(|point| {
            let (x, y) = point.split_once(',')?;
            x.parse().ok().zip(y.parse().ok())
        });
        let points: Vec<(f64, f64)> = points.collect();
        let of_line = |name: &str| shape.attr(name).is_some_and(|colour| ("#0B".."#10").contains(&colour));
        let of_mark = |name: &str| shape.attr(name) == Some("#040404");
        match shape.value().name() {
            "polyline" if of_line("stroke") => drawing.lines.push(points.clone()),
            "circle" if of_line("fill") => drawing.dots.extend(pair("cx", "cy")),
            "rect" if shape.attr("fill") == Some("#030303") => {
                drawing.shades.extend(number("x").zip(number("width")).map(|(x, width)| (x, x + width)));
            }
            "text" if of_mark("fill") => drawing.marks.push(shape.text().collect::<String>().trim().to_owned()),
            _ => {}
        }
        let ends = [("cx", "cy"), ("x", "y"), ("x1", "y1"), ("x2", "y2")];
        drawing.everything.extend(ends.into_iter().filter_map(|(x, y)| pair(x, y)).chain(points));
    }
    drawing
}

/// A line is visible if it has a length, a point if it is a dot.
fn shows(drawing: &Drawing) -> bool {
    !drawing.dots.is_empty() || drawing.lines.iter().any(|points| points.iter().any(|point| *point != points[0]))
}

#[test]
fn only_figures_above_zero_are_worth_a_chart() {
    for (lines, expected) in [
        (&[][..], false),
        (&[&[][..]], false),
        (&[&[(1.0, 0.0), (2.0, 0.0)]], false),
        (&[&[(1.0, 0.0)], &[(0.0, 1e-9)]], true),
    ] {
        assert_eq!(chart(Scale::Seconds, Scale::Number, lines).has_points(), expected, "{lines:?}");
    }
}

#[test]
fn one_point_is_seen_on_every_scale() {
    for x in [Scale::Seconds, Scale::Nines, Scale::Count] {
        for y in [Scale::Duration, Scale::Number, Scale::Count, Scale::Bytes] {
            let drawing = drawn(&chart(x, y, &[&[(0.5, 100.0)]]));
            assert!(shows(&drawing), "{x:?} and {y:?}: {drawing:?}");
        }
    }
    // A line of one point beside a longer one is seen as well.
    let drawing = drawn(&chart(Scale::Seconds, Scale::Number, &[&[(0.5, 1.0), (1.5, 2.0)], &[(0.5, 3.0)]]));
    assert_eq!(drawing.dots.len(), 1, "{drawing:?}");
    let drawing = drawn(&chart(Scale::Count, Scale::Number, &[&[(1.0, 1.0), (10.0, 2.0)], &[(100.0, 3.0)]]));
    assert_eq!(drawing.dots.len(), 3, "over sizes each point is a run, and is a dot");
}

#[test]
fn a_drawing_of_nothing_has_axes_and_no_line() {
    for y in [Scale::Duration, Scale::Number, Scale::Count, Scale::Bytes] {
        let drawing = drawn(&chart(Scale::Seconds, y, &[&[]]));
        assert!(!shows(&drawing) && drawing.everything.len() > 4, "{y:?}: {drawing:?}");
    }
}

#[test]
fn everything_lies_inside_the_drawing() {
    for seed in 0..200 {
        let mut draws = Draws::new(seed, 1, 1);
        let y = [Scale::Duration, Scale::Number, Scale::Count, Scale::Bytes][draws.below(4) as usize];
        let x = [Scale::Seconds, Scale::Nines, Scale::Count][draws.below(3) as usize];
        let largest = 10_f64.powi(draws.below(19) as i32 - 3);
        let point = |draws: &mut Draws| {
            let across = match x {
                Scale::Seconds => draws.fraction() * 7_200.0 - 100.0,
                Scale::Nines => draws.fraction() * 0.999_999,
                _ => 1.0 + draws.fraction() * 1e6,
            };
            (across, draws.fraction() * largest)
        };
        let lines: Vec<Vec<(f64, f64)>> =
            (0..draws.below(8)).map(|_| (0..draws.below(10)).map(|_| point(&mut draws)).collect()).collect();
        let lines: Vec<&[(f64, f64)]> = lines.iter().map(Vec::as_slice).collect();
        let mut chart = chart(x, y, &lines);
        if x == Scale::Seconds {
            chart.marks = (0..draws.below(20)).map(|_| draws.fraction() * 9_000.0 - 900.0).collect();
            chart.stretch = Some((-3.0, 5.0));
            chart.measured = Some((draws.fraction() * 100.0 - 50.0, draws.fraction() * 1e5));
        }
        let drawing = drawn(&chart);
        for (across, down) in &drawing.everything {
            let inside = (0.0..=400.0).contains(across) && (0.0..=280.0).contains(down);
            assert!(inside, "seed {seed}: {across}, {down} with marks {:?}", chart.marks);
        }
        assert_eq!(shows(&drawing), lines.iter().any(|points| !points.is_empty()), "seed {seed}: {lines:?}");
    }
}

#[test]
fn marks_outside_of_the_axis_are_not_drawn() {
    let mut chart = chart(Scale::Seconds, Scale::Number, &[&[(0.5, 1.0), (3.5, 2.0)]]);
    chart.marks = vec![-40.0, 0.0, 2.0, 4.0, 4.1, 1e12];
    // The others keep the numbers by which the list below the chart names them.
    assert_eq!(drawn(&chart).marks, ["2", "3", "4"]);
    chart.marks = vec![2.0; 12];
    assert_eq!(drawn(&chart).marks.len(), 12, "marks at one time are all numbered");
}

#[test]
fn what_was_not_measured_is_shaded() {
    let chart = chart(Scale::Seconds, Scale::Number, &[&[(0.0, 1.0), (10.0, 2.0)]]);
    let plot = {
        let drawing = drawn(&Chart { measured: Some((20.0, 30.0)), ..chart });
        assert_eq!(drawing.shades.len(), 1, "all of it: {drawing:?}");
        drawing.shades[0]
    };
    let shades = |measured| {
        let lines: &[&[(f64, f64)]] = &[&[(0.0, 1.0), (10.0, 2.0)]];
        let chart = self::chart(Scale::Seconds, Scale::Number, lines);
        let part = |at: f64| ((at - plot.0) / (plot.1 - plot.0) * 10.0).round();
        let drawing = drawn(&Chart { measured, ..chart });
        drawing.shades.iter().map(|(from, to)| (part(*from), part(*to))).collect::<Vec<_>>()
    };
    assert_eq!(shades(None), []);
    assert_eq!(shades(Some((0.0, 10.0))), []);
    assert_eq!(shades(Some((-5.0, 99.0))), []);
    assert_eq!(shades(Some((2.0, 7.0))), [(0.0, 2.0), (7.0, 10.0)]);
    assert_eq!(shades(Some((-9.0, 7.0))), [(7.0, 10.0)]);
    assert_eq!(shades(Some((-9.0, -5.0))), [(0.0, 10.0)]);
}
