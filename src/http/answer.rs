//! From a request to its answer.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::{Site, health, metrics};

/// Answers a request. What it carries is not read.
pub(super) async fn answer<B>(site: &Site, request: &Request<B>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => typed(StatusCode::OK, METRICS, metrics::page(&site.hub)),
        "/health" => told(&health::silent(&site.hub).await.join("\n")),
        "/ready" => told(&site.readiness.reasons(&site.hub)),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /health and /ready\n"),
    }
}

/// Well, or not for these reasons.
fn told(reasons: &str) -> Response<Full<Bytes>> {
    match reasons.trim_end() {
        "" => text(StatusCode::OK, "ok\n"),
        reasons => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reasons}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<String>) -> Response<Full<Bytes>> {
    typed(status, TEXT, body.into())
}

fn typed(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const TEXT: &str = "text/plain; charset=utf-8";
/// The text format of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
