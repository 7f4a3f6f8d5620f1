//! `[page]`: what the daemon finds, in a browser.

use serde::{Deserialize, Serialize};

use super::MetricsConfig;

/// What the daemon finds as it happens, in a browser: a page beside `/metrics`, under `/` of `metrics.listen`, for those who
/// may ask for `/metrics`; a browser shows the token as a password, whatever the user. It never is open to other hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PageConfig {
    /// Whether there is one. Whoever may ask for it on this host reads records by it, masked as `privacy.mask` says.
    pub enabled: bool,
    /// Where a trace is shown: `https://jaeger.example/trace/{trace_id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_url: Option<String>,
}

impl PageConfig {
    /// What makes no sense, if something does.
    pub(super) fn fault(&self, metrics: &MetricsConfig) -> Option<String> {
        let is_url = |url: &String| super::otlp::is_http(url) && url.contains("{trace_id}");
        if !self.trace_url.as_ref().is_none_or(is_url) {
            return Some(
                "page.trace_url: must begin with http:// or https://, and hold {trace_id}".to_owned(),
            );
        }
        (self.enabled && metrics.is_open_to_others()).then(|| {
            "page.enabled: other hosts can reach metrics.listen: give metrics.token_file (or metrics.token, \
             metrics.client_authority); metrics.insecure opens /metrics alone"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_open_to_other_hosts() {
        let page = PageConfig { enabled: true, trace_url: None };
        let metrics = |text: &str| toml::from_str::<MetricsConfig>(text).unwrap();
        let open = metrics("listen = \"0.0.0.0:9464\"\ninsecure = true");
        assert!(page.fault(&open).unwrap().contains("metrics.token_file"));
        assert_eq!(PageConfig::default().fault(&open), None);
        assert_eq!(page.fault(&metrics("listen = \"0.0.0.0:9464\"\ntoken = \"0123456789abcdef\"")), None);
        assert_eq!(page.fault(&MetricsConfig::default()), None);
    }

    #[test]
    fn a_trace_has_an_address() {
        let fault = |url: &str| {
            let page = PageConfig { enabled: false, trace_url: Some(url.to_owned()) };
            page.fault(&MetricsConfig::default())
        };
        assert_eq!(fault("https://jaeger/trace/{trace_id}"), None);
        for wrong in ["javascript:alert('{trace_id}')", "https://jaeger/trace/"] {
            assert!(fault(wrong).unwrap().starts_with("page.trace_url: "), "{wrong}");
        }
    }
}
