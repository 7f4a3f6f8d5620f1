//! `/metrics`, `/healthz` and `/readyz`.
