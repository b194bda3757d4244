//! Plots as inline SVG. Each has a text that says the same. Sizes and colours are attributes and
//! classes, because the page permits no inline style.

use serde_json::Number;

use crate::html::Html;
use crate::latency::Split;
use crate::minutes::{MINUTES, Series};
use crate::units::{count, duration};

/// The width of a plot in its own units.
const WIDTH: u64 = 240;
/// The height of a bar of the largest value.
const HEIGHT: u64 = 44;
/// The width of a minute.
const MINUTE_WIDTH: u64 = WIDTH / MINUTES;

/// A part of `length` in proportion to a value of at most `most`.
fn scaled(value: u64, most: u64, length: u64) -> u64 {
    let scaled = u128::from(value.min(most)).saturating_mul(u128::from(length));
    let scaled = scaled.checked_div(u128::from(most)).unwrap_or_default();
    u64::try_from(scaled).unwrap_or(length)
}

/// A bar of a height, on the ground of the plot.
fn write_bar(html: &mut Html, class: &'static str, x: u64, height: u64) {
    html.markup("<rect class=\"").markup(class);
    html.markup("\" x=\"").value(x);
    html.markup("\" y=\"").value(HEIGHT.saturating_sub(height));
    html.markup("\" width=\"3\" height=\"").value(height);
    html.markup("\"/>");
}

/// The requests of a subject in each minute of the last hour, and the minute of an alert.
pub(crate) fn write_series(html: &mut Html, series: &Series, now: u64, alert: u64) {
    let first = now.saturating_sub(MINUTES.saturating_sub(1));
    let x = |minute: u64| {
        minute
            .checked_sub(first)
            .map(|it| it.saturating_mul(MINUTE_WIDTH))
    };
    let shown = series.iter().filter_map(|it| Some((x(it.number)?, it)));
    let shown: Vec<_> = shown.collect();
    let most = shown.iter().map(|(_, it)| it.requests).max();
    let denied = shown.iter().map(|(_, it)| it.denied).max();
    let (most, denied) = (most.unwrap_or_default(), denied.unwrap_or_default());
    html.markup("<figure><svg class=\"plot\" viewBox=\"0 0 240 48\" ")
        .markup("preserveAspectRatio=\"none\" aria-hidden=\"true\">");
    html.markup("<line class=\"ground\" x1=\"0\" y1=\"45\" x2=\"240\" y2=\"45\"/>");
    for (x, minute) in &shown {
        write_bar(html, "requests", *x, scaled(minute.requests, most, HEIGHT));
        write_bar(html, "denials", *x, scaled(minute.denied, most, HEIGHT));
    }
    if let Some(x) = x(alert) {
        html.markup("<line class=\"marker\" x1=\"").value(x);
        html.markup("\" y1=\"0\" x2=\"").value(x);
        html.markup("\" y2=\"48\"/>");
    }
    html.markup("</svg>\n<figcaption>Requests a minute in the last hour: at most ");
    html.value(count(most)).markup(", of which denied at most ");
    html.value(count(denied));
    html.markup(". The dashed line is the alert.</figcaption></figure>\n");
}

/// What a rule has judged, beside what is usual.
pub(crate) fn write_comparison(html: &mut Html, observed: &Number, usual: &Number, unit: &str) {
    let value = |number: &Number| {
        number
            .as_f64()
            .filter(|it| it.is_finite())
            .unwrap_or_default()
    };
    let (seen, expected) = (value(observed).max(0.0), value(usual).max(0.0));
    let most = seen.max(expected).max(f64::MIN_POSITIVE);
    html.markup("<figure><svg class=\"plot low\" viewBox=\"0 0 240 22\" ")
        .markup("preserveAspectRatio=\"none\" aria-hidden=\"true\">");
    for (class, y, number) in [("denials", "2", seen), ("requests", "12", expected)] {
        let width = number / most * 240.0;
        html.markup("<rect class=\"").markup(class);
        html.markup("\" x=\"0\" y=\"").markup(y);
        html.markup("\" height=\"8\" width=\"")
            .value(format_args!("{width:.1}"));
        html.markup("\"/>");
    }
    html.markup("</svg>\n<figcaption>Upper bar: observed ")
        .value(observed);
    html.markup(". Lower bar: usual ").value(usual);
    html.markup(". Unit: ")
        .text(unit)
        .markup(".</figcaption></figure>\n");
}

/// The parts of a request's time in their order: gate, queue, handlers, backend, the rest.
pub(crate) fn write_split(html: &mut Html, split: &Split) {
    let parts = [
        ("gate", split.gate_us.unwrap_or_default()),
        ("queue", split.queue_us),
        ("handlers", split.handler_us),
        ("backend", split.backend_us),
        ("host", split.host_us),
    ];
    let sum = parts
        .iter()
        .fold(0, |sum: u64, (_, us)| sum.saturating_add(*us));
    html.markup("<svg class=\"plot low\" viewBox=\"0 0 240 10\" preserveAspectRatio=\"none\" ")
        .markup("role=\"img\" aria-label=\"");
    for (name, us) in parts {
        html.markup(name)
            .markup(" ")
            .value(duration(us))
            .markup(" ");
    }
    html.markup("\">");
    let mut x = 0_u64;
    for (name, us) in parts {
        let width = scaled(us, sum, WIDTH);
        html.markup("<rect class=\"part-").markup(name);
        html.markup("\" x=\"").value(x);
        html.markup("\" y=\"0\" height=\"10\" width=\"")
            .value(width);
        html.markup("\"/>");
        x = x.saturating_add(width);
    }
    html.markup("</svg>");
}

#[cfg(test)]
mod tests {
    use crate::minutes::Minute;

    use super::*;

    #[test]
    fn a_value_is_scaled_to_its_largest() {
        for (value, most, expected) in [(0, 0, 0), (5, 10, 22), (20, 10, HEIGHT), (1, 0, 0)] {
            assert_eq!(scaled(value, most, HEIGHT), expected);
        }
        assert_eq!(scaled(u64::MAX, u64::MAX, HEIGHT), HEIGHT);
    }

    #[test]
    fn a_series_shows_its_hour_and_the_alert() {
        let minute = |number, requests, denied| Minute {
            number,
            requests,
            denied,
        };
        let series = [minute(9, 100, 0), minute(70, 5, 0), minute(99, 10, 5)].into();
        let mut html = Html::default();
        write_series(&mut html, &series, 99, 98);
        let text = html.finish();
        assert_eq!(
            text.matches("class=\"requests\"").count(),
            2,
            "one is over: {text}"
        );
        assert!(
            text.contains("x=\"236\" y=\"22\" width=\"3\" height=\"22\""),
            "{text}"
        );
        assert!(text.contains("class=\"marker\" x1=\"232\""), "{text}");
        assert!(
            text.contains("at most 10, of which denied at most 5"),
            "{text}"
        );
    }

    #[test]
    fn what_was_observed_is_beside_what_is_usual() {
        let mut html = Html::default();
        write_comparison(&mut html, &Number::from(40), &Number::from(10), "<b>");
        let text = html.finish();
        assert!(
            text.contains("width=\"240.0\"") && text.contains("width=\"60.0\""),
            "{text}"
        );
        assert!(text.contains("Unit: &lt;b&gt;."), "{text}");
        let mut html = Html::default();
        write_comparison(&mut html, &Number::from(0), &Number::from(0), "");
        assert!(!html.finish().contains("NaN"));
    }

    #[test]
    fn the_parts_of_a_time_fill_the_bar() {
        let split = Split {
            gate_us: Some(100),
            queue_us: 0,
            handler_us: 100,
            backend_us: 200,
            host_us: 0,
        };
        let mut html = Html::default();
        write_split(&mut html, &split);
        let text = html.finish();
        assert!(
            text.contains("class=\"part-backend\" x=\"120\" y=\"0\" height=\"10\" width=\"120\"")
        );
    }
}
