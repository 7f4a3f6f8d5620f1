//! The same metrics for readers that do not speak OpenMetrics: Prometheus's text format 0.0.4, which `promtool check
//! metrics` and a person with a browser take.

/// The content type of OpenMetrics 1.0.
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// That of the text format.
pub(super) const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether a request with this Accept header (RFC 9110 §12.5.1) wants OpenMetrics: it must say so.
pub(super) fn wants_open_metrics(accept: Option<&str>) -> bool {
    let refused = |range: &str| {
        range.split(';').skip(1).any(|param| {
            let weight = param.trim().strip_prefix("q=");
            weight.and_then(|weight| weight.trim().parse::<f32>().ok()).is_some_and(|weight| weight <= 0.0)
        })
    };
    let named = |range: &str| {
        let kind = range.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/openmetrics-text") && !refused(range)
    };
    accept.is_some_and(|accept| accept.split(',').any(named))
}

/// OpenMetrics as text format: there a counter's family is called like its samples, an info is a gauge, units and exemplars
/// are not told, and nothing marks the end.
pub(super) fn plain(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    // It goes before the type, which says what its family is called.
    let mut help = None;
    for line in open_metrics.lines() {
        let words = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        match words {
            _ if line == "# EOF" => {}
            Some(("UNIT", _)) => {}
            Some(("HELP", rest)) => help = rest.split_once(' ').map(|(_, help)| help),
            Some(("TYPE", rest)) => {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
                let (suffix, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    _ => ("", kind),
                };
                if let Some(help) = help.take() {
                    out.extend(["# HELP ", name, suffix, " ", help, "\n"]);
                }
                out.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
            }
            _ => out.extend([without_exemplar(line), "\n"]),
        }
    }
    out
}

/// A sample up to the `#` behind which its exemplar stands: the first one outside of quotes.
fn without_exemplar(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    let end = line.find(|c| {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            '#' => return !quoted,
            _ => {}
        }
        false
    });
    end.map_or(line, |end| line[..end].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        for (accept, wanted) in [
            (None, false),
            (Some("*/*"), false),
            (Some("text/plain;version=0.0.4"), false),
            (Some("application/openmetrics-text"), true),
            (Some("text/plain, Application/OpenMetrics-Text;version=1.0.0;q=0.5"), true),
            (Some("application/openmetrics-text;q=0, text/plain"), false),
        ] {
            assert_eq!(wants_open_metrics(accept), wanted, "{accept:?}");
        }
    }

    #[test]
    fn a_family_is_called_as_the_text_format_has_it() {
        let open = "# HELP a_b One thing.\n# TYPE a_b info\na_b_info{v=\"# TYPE\"} 1\n# HELP c Others.\n# TYPE c counter\n\
                    c_total{x=\"y\"} 3\n# HELP h Times.\n# TYPE h histogram\nh_sum 5.0\nh_bucket{le=\"1\",t=\"\\\" # {\"} 2 # \
                    {trace_id=\"a\"} 0.5\n# HELP s Age.\n# TYPE s gauge\n# UNIT s seconds\ns 4.5\n# EOF\n";
        let text = "# HELP a_b_info One thing.\n# TYPE a_b_info gauge\na_b_info{v=\"# TYPE\"} 1\n# HELP c_total Others.\n\
                    # TYPE c_total counter\nc_total{x=\"y\"} 3\n# HELP h Times.\n# TYPE h histogram\nh_sum 5.0\nh_bucket{le=\"1\",t=\"\\\" # {\"} 2\n# HELP s Age.\n# TYPE s gauge\ns 4.5\n";
        assert_eq!(plain(open), text);
    }
}
