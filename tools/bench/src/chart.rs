//! The chart: a bar for each rate, with a line from the least to the most of its rounds.

use std::fmt::Write as _;

use crate::report::{Figure, shown};

const ROW: usize = 28;
const LEFT: f64 = 260.0;
const WIDTH: f64 = 420.0;
const RIGHT: f64 = 150.0;

/// An SVG with a bar for each figure; bars at `limit` are full.
pub(crate) fn bars(figures: &[&Figure], limit: Option<f64>) -> String {
    let most = figures.iter().map(|figure| figure.max()).chain(limit).fold(1.0, f64::max);
    let height = ROW * figures.len() + 40;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{height}\" \
         viewBox=\"0 0 {0} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        LEFT + WIDTH + RIGHT
    );
    // Writing into a String does not fail.
    for (row, figure) in figures.iter().enumerate() {
        let _ = svg.write_str(&bar(figure, row * ROW + 12, most));
    }
    if let Some(limit) = limit {
        let x = LEFT + WIDTH * limit / most;
        let end = height - 24;
        let _ = write!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"6\" x2=\"{x:.1}\" y2=\"{end}\" stroke=\"#b03030\" \
             stroke-dasharray=\"4 3\"/>\n<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" \
             fill=\"#b03030\">the client's limit</text>\n",
            height - 8
        );
    }
    svg + "</svg>\n"
}

fn bar(figure: &Figure, top: usize, most: f64) -> String {
    let x = |value: f64| LEFT + WIDTH * value / most;
    let (name, value) = (format!("{}: {}", figure.part, figure.name), figure.median());
    let (middle, text) = (top + 9, top + 14);
    format!(
        "<text x=\"{:.1}\" y=\"{text}\" text-anchor=\"end\">{}</text>\n\
         <rect x=\"{LEFT:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"18\" fill=\"#4a7fb5\"/>\n\
         <line x1=\"{:.1}\" y1=\"{middle}\" x2=\"{:.1}\" y2=\"{middle}\" stroke=\"#10304f\" \
         stroke-width=\"2\"/>\n\
         <text x=\"{:.1}\" y=\"{text}\">{} {}</text>\n",
        LEFT - 8.0,
        escaped(&name),
        x(value) - LEFT,
        x(figure.min()),
        x(figure.max()),
        x(figure.max().max(value)) + 8.0,
        shown(value),
        escaped(&figure.unit),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_its_bar() {
        let figure = |name: &str, value| Figure {
            part: "throughput".to_owned(),
            name: name.to_owned(),
            unit: "deliveries/s".to_owned(),
            taken_at: String::new(),
            rounds: vec![value],
        };
        let (one, ten) = (figure("fan-out <1>", 500.0), figure("fan-out 10", 1000.0));
        let svg = bars(&[&one, &ten], Some(2000.0));
        assert!(svg.contains("throughput: fan-out &lt;1&gt;"));
        assert!(svg.contains("width=\"105.0\"") && svg.contains("width=\"210.0\""), "{svg}");
    }
}
