//! HTTP: connections that shards have handed over, and the routes they find.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use tracing::debug;

use super::reply::error;
use super::{Control, api, prometheus, rooms, stats};
use crate::app::App;
use crate::config::CorsOrigins;
use crate::handover::{HandedOver, Place};
use crate::limits::{HEAD_BYTES_MAX, HTTP_BODY_BYTES_MAX, HTTP_HEAD_MS};

/// Answers smaller than this are not worth compressing.
const COMPRESS_FROM_BYTES: u64 = 1024;

/// Serves connections as they are handed over.
pub(super) async fn serve<A: App>(
    control: Arc<Control<A>>,
    mut handed_over: UnboundedReceiver<HandedOver>,
) {
    let router = router(control);
    while let Some(connection) = handed_over.recv().await {
        let router = router.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = serve_one(connection, router).await {
                debug!(%error, "a control connection ended");
            }
        });
    }
}

async fn serve_one(
    HandedOver { stream, head, place }: HandedOver,
    router: Router,
) -> Result<(), Box<dyn std::error::Error>> {
    stream.set_nonblocking(true)?;
    let stream = TcpStream::from_std(stream)?;
    let stream = Rewound { head, read: 0, stream, _place: place };
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HTTP_HEAD_MS))
        .max_buf_size(2 * HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await?;
    Ok(())
}

/// A stream whose first bytes have been read already.
struct Rewound {
    head: Box<[u8]>,
    read: usize,
    stream: TcpStream,
    _place: Place,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.head[self.read..];
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        self.read += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn router<A: App>(control: Arc<Control<A>>) -> Router {
    let cors = cors(&control.config.cors_origins);
    Router::new()
        .route("/health", get(health::<A>))
        .route("/ready", get(ready::<A>))
        .route("/metrics", get(metrics::<A>))
        .route("/alerts", get(alerts::<A>))
        .route("/api/rooms", get(api::rooms::<A>))
        .route("/api/rooms/{id}", get(rooms::room::<A>).post(rooms::configure::<A>))
        .route("/api/rooms/{id}/messages", get(rooms::messages::<A>))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .with_state(control)
        .layer(DefaultBodyLimit::max(HTTP_BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn(bad_path))
        .layer(cors)
        .layer(fixed("x-content-type-options", "nosniff"))
        .layer(fixed("x-frame-options", "DENY"))
        .layer(fixed("referrer-policy", "no-referrer"))
        .layer(fixed("cache-control", "no-store"))
        .layer(fixed("content-security-policy", "default-src 'self'; frame-ancestors 'none'"))
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(COMPRESS_FROM_BYTES)))
}

fn fixed(name: &'static str, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    let value = HeaderValue::from_static(value);
    SetResponseHeaderLayer::if_not_present(HeaderName::from_static(name), value)
}

fn cors(origins: &CorsOrigins) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE]);
    match origins {
        CorsOrigins::None => CorsLayer::new(),
        CorsOrigins::Any => layer.allow_origin(AllowOrigin::any()),
        CorsOrigins::List(_) => {
            let origins = origins.clone();
            layer.allow_origin(AllowOrigin::predicate(move |origin, _| {
                origins.allows(origin.as_bytes())
            }))
        }
    }
}

async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "not_found", "there is nothing here")
}

async fn method_not_allowed() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path knows no such method")
}

/// Errors that the framework itself answers in plain text become JSON like all others.
async fn bad_path(request: Request, next: axum::middleware::Next) -> Result<Response, Infallible> {
    let response = next.run(request).await;
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let plain = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if status.is_client_error() && plain {
        return Ok(error(status, "invalid", "the path or its query is malformed"));
    }
    Ok(response)
}

/// A store or a Redis that is down degrades the host: it still serves, and a restart would mend
/// neither but lose what waits for them. So this is 200 whenever there is an answer at all.
async fn health<A: App>(State(control): State<Arc<Control<A>>>) -> Response {
    let store = control.store.as_ref().map_or("off", |store| store.state());
    let redis = control.fleet.as_ref().map_or("off", |fleet| fleet.state());
    Json(json!({
        "status": if [store, redis].contains(&"down") { "degraded" } else { "ok" },
        "redis": redis,
        "store": store,
        "uptime": control.started.elapsed().as_secs(),
    }))
    .into_response()
}

/// A host that does not hear itself through Redis would take clients and serve them nothing.
async fn ready<A: App>(State(control): State<Arc<Control<A>>>) -> Response {
    let refuse = |message| error(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
    if control.draining.load(Ordering::Relaxed) {
        return refuse("the server is draining");
    }
    if control.fleet.as_ref().is_some_and(|fleet| !fleet.stats.is_ready()) {
        return refuse("what is published does not come back from Redis");
    }
    Json(json!({"ready": true})).into_response()
}

async fn alerts<A: App>(State(control): State<Arc<Control<A>>>) -> Response {
    Json(json!({"alerts": control.board().raised()})).into_response()
}

async fn metrics<A: App>(
    State(control): State<Arc<Control<A>>>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let text = ["text/plain", "application/openmetrics-text"];
    let wants_text = query.split('&').any(|it| it == "format=prometheus")
        || text.iter().any(|kind| accept.contains(kind));
    if !wants_text {
        return Json(stats::report(&control).await).into_response();
    }
    match prometheus::text(&control).await {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::CONTENT_TYPE)], text).into_response(),
        Err(_) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "unavailable", "the metrics were not written")
        }
    }
}
