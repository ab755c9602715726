//! Charts as a browser gets them: whatever is drawn is visible, and lies inside the drawing.

use scraper::{Html, Selector};

use super::*;

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
