//! Charts as SVG. The library draws lines and text in placeholder colours, one for each part of the drawing. The page's
//! style gives each part its real colour, so one drawing serves light and dark mode.

use plotters::chart::{ChartBuilder, ChartContext, LabelAreaPosition};
use plotters::coord::cartesian::Cartesian2d;
use plotters::drawing::{DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::prelude::SVGBackend;
use plotters::series::LineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, RGBColor, TextStyle};

use super::axis::{Axis, Scale};

/// The parts of a drawing and their placeholder colours; `style.css` has the same ones.
const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);
const SHADE: RGBColor = RGBColor(3, 3, 3);
const MARK: RGBColor = RGBColor(4, 4, 4);
/// As many line colours as `style.css` has.
const LINES: [RGBColor; 5] =
    [RGBColor(11, 1, 1), RGBColor(12, 1, 1), RGBColor(13, 1, 1), RGBColor(14, 1, 1), RGBColor(15, 1, 1)];

/// The library's size is larger than the text that it draws.
const LETTERS: f64 = 12.0 * 1.24;
const LETTER_WIDTH: f64 = 7.2;
/// The rows above the plot in which the marks' numbers are placed side by side.
const MARK_ROWS: usize = 3;
const MARK_ROW: i32 = 14;
const DOT_RADIUS: i32 = 4;

/// One line; its points are values on the chart's scales.
pub struct Line {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

pub struct Chart {
    pub title: &'static str,
    /// What the chart shows, in a sentence.
    pub caption: String,
    pub x: Scale,
    pub y: Scale,
    pub lines: Vec<Line>,
    /// Times, numbered in order. Those outside of the horizontal axis are not drawn.
    pub marks: Vec<f64>,
    /// The least range of the horizontal axis, so that charts over the same time can be compared.
    pub stretch: Option<(f64, f64)>,
    /// The measured time; the chart is shaded outside it.
    pub measured: Option<(f64, f64)>,
}

/// The size of a drawing in its own units. These are pixels if the page is wide enough.
#[derive(Clone, Copy)]
pub struct Size {
    pub width: u32,
    pub height: u32,
    pub x_ticks: usize,
    pub y_ticks: usize,
}

type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

impl Chart {
    /// Whether there is anything to show.
    pub fn has_points(&self) -> bool {
        self.lines.iter().any(|line| line.points.iter().any(|(_, y)| *y > 0.0))
    }

    pub fn svg(&self, size: Size) -> Result<String, String> {
        let mut svg = String::new();
        self.draw(&mut svg, size).map_err(|error| format!("the chart {:?} cannot be drawn: {error}", self.title))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String, size: Size) -> Drawn {
        let axis = |scale: Scale, values: &mut dyn Iterator<Item = f64>, ticks| {
            scale.axis(values.map(|value| scale.place(value)), ticks)
        };
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let stretch = self.stretch.into_iter().flat_map(|(from, to)| [from, to]);
        let x = axis(self.x, &mut points().map(|(x, _)| *x).chain(stretch), size.x_ticks);
        let y = axis(self.y, &mut points().map(|(_, y)| *y), size.y_ticks);
        // Half of the last label may extend beyond the end of the axis.
        let right = x.ticks.last().map_or(0.0, |(_, text)| text.chars().count() as f64 * LETTER_WIDTH / 2.0) + 6.0;
        let label_width = y.ticks.iter().map(|(_, text)| text.chars().count()).max().unwrap_or_default();
        let top = if self.marks.is_empty() { 10 } else { MARK_ROW * MARK_ROWS as i32 + 6 };

        let area = SVGBackend::with_string(svg, (size.width, size.height)).into_drawing_area();
        let mut plot = ChartBuilder::on(&area)
            .margin_top(top)
            .margin_right(right as i32)
            .set_label_area_size(LabelAreaPosition::Left, (label_width as f64 * LETTER_WIDTH + 16.0) as i32)
            .set_label_area_size(LabelAreaPosition::Bottom, 28)
            .build_cartesian_2d(x.clone(), y.clone())?;
        self.shade(&mut plot, &x, &y)?;
        mesh(&mut plot)?;
        self.draw_marks(&mut plot, &x, &y, &area)?;
        for (number, line) in self.lines.iter().enumerate() {
            let places = line.points.iter().map(|(x, y)| (self.x.place(*x), self.y.place(*y)));
            let colour = LINES[number % LINES.len()];
            plot.draw_series(LineSeries::new(places.clone(), colour.stroke_width(2)))?;
            // Over sizes, each point is one run, so it is drawn as a dot. A line of one point has no length: without a
            // dot, nothing would be seen of it.
            let dots = places.filter(|_| self.x == Scale::Count || line.points.len() == 1);
            plot.draw_series(dots.map(|at| Circle::new(at, DOT_RADIUS, colour.filled())))?;
        }
        area.present()
    }

    /// Shades the time that was not measured.
    fn shade(&self, plot: &mut Plot<'_, '_>, x: &Axis, y: &Axis) -> Drawn {
        let Some((begin, end)) = self.measured else { return Ok(()) };
        let outside = [(x.from, begin.clamp(x.from, x.to)), (end.clamp(x.from, x.to), x.to)];
        let rectangles = outside.into_iter().filter(|(from, to)| from < to);
        plot.draw_series(rectangles.map(|(from, to)| Rectangle::new([(from, y.from), (to, y.to)], SHADE.filled())))?;
        Ok(())
    }

    /// A thin line for each mark, with its number above.
    fn draw_marks(
        &self,
        plot: &mut Plot<'_, '_>,
        x: &Axis,
        y: &Axis,
        area: &plotters::drawing::DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    ) -> Drawn {
        let style = MARK.stroke_width(1);
        let lines = self.marks.iter().filter(|at| x.from <= **at && **at <= x.to);
        plot.draw_series(lines.map(|at| PathElement::new(vec![(*at, y.from), (*at, y.to)], style)))?;
        let letters =
            TextStyle::from(("sans-serif", LETTERS).into_font()).color(&MARK).pos(Pos::new(HPos::Center, VPos::Bottom));
        let mut ends = [i32::MIN; MARK_ROWS];
        // A number without its line would stand in the labels, or outside of the drawing.
        for (number, at) in (1..).zip(&self.marks).filter(|(_, at)| x.from <= **at && **at <= x.to) {
            let (place, floor) = plot.backend_coord(&(*at, y.to));
            let text = number.to_string();
            let half = (text.len() as f64 * LETTER_WIDTH / 2.0) as i32 + 2;
            // The lowest row with enough room; the last row takes the numbers that fit nowhere.
            let row = ends.iter().position(|end| place - half > *end).unwrap_or(MARK_ROWS - 1);
            ends[row] = place + half;
            area.draw(&Text::new(text, (place, floor - 3 - row as i32 * MARK_ROW), letters.clone()))?;
        }
        Ok(())
    }
}

fn mesh(plot: &mut Plot<'_, '_>) -> Drawn {
    plot.configure_mesh()
        .bold_line_style(GRID.stroke_width(1))
        .axis_style(INK.stroke_width(1))
        .label_style(TextStyle::from(("sans-serif", LETTERS).into_font()).color(&INK))
        .draw()
}

#[cfg(test)]
mod tests;
