//! The two text formats of a metrics page: OpenMetrics, and the older format of Prometheus.
//!
//! They differ in the head of a counter. OpenMetrics names it without the `_total` of its samples,
//! so a reader of the older format would find samples without help and type.

/// The media type of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text";

/// A text format of a metrics page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The older format, which every reader of metrics knows.
    Prometheus,
}

impl Exposition {
    /// The format for a request with this `Accept` field: OpenMetrics if it is named.
    pub fn accepted(accept: &str) -> Self {
        let mut media_types = accept
            .split(',')
            .map(|range| range.split(';').next().unwrap_or_default().trim());
        if media_types.any(|media_type| media_type.eq_ignore_ascii_case(OPEN_METRICS)) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The content type of a page.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts a page in OpenMetrics to this format.
    pub fn page(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Prometheus => older_format(&open_metrics),
        }
    }
}

/// Converts a page in OpenMetrics to the older format.
fn older_format(open_metrics: &str) -> String {
    let mut page = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            // Written with the type, which decides the name.
            help = described.split_once(' ');
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap_or((typed, "untyped"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, text)) = help.take() {
                page.extend(["# HELP ", name, suffix, " ", text, "\n"]);
            }
            page.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if line != "# EOF" {
            page.extend([line, "\n"]);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::Exposition;
    use crate::metrics::Metrics;

    #[test]
    fn only_who_names_open_metrics_gets_it() {
        let prometheus = "application/vnd.google.protobuf;q=0.6,\
            application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        for (accept, format) in [
            (prometheus, Exposition::OpenMetrics),
            ("Application/OpenMetrics-Text", Exposition::OpenMetrics),
            ("", Exposition::Prometheus),
            ("*/*", Exposition::Prometheus),
            ("text/plain;version=0.0.4", Exposition::Prometheus),
            ("application/openmetrics-text-2", Exposition::Prometheus),
        ] {
            assert_eq!(Exposition::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn in_the_older_format_a_counter_is_described_under_the_name_of_its_samples() {
        let metrics = Metrics::new();
        metrics.panics.inc();
        let open_metrics = metrics.text().unwrap();
        let page = Exposition::Prometheus.page(open_metrics.clone());
        let counter = "# HELP tensorgate_host_panics_total Panics caught on request tasks.\n\
            # TYPE tensorgate_host_panics_total counter\n\
            tensorgate_host_panics_total 1\n";
        assert!(page.contains(counter), "{page}");
        let gauge = "# HELP tensorgate_host_in_flight Requests in the host.\n\
            # TYPE tensorgate_host_in_flight gauge\n\
            tensorgate_host_in_flight 0\n";
        assert!(page.contains(gauge), "{page}");
        assert!(open_metrics.ends_with("# EOF\n") && !page.contains("# EOF"));
        assert_eq!(
            page.lines().count().saturating_add(1),
            open_metrics.lines().count()
        );
        assert_eq!(
            Exposition::OpenMetrics.page(open_metrics.clone()),
            open_metrics
        );
    }
}
