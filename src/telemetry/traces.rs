//! Traces: spans of this program, sent to a collector by OTLP.
//!
//! Spans carry what logs say, in the program's own words; [`in_convention`] translates them on their way out, so that whoever
//! makes a span knows nothing of OpenTelemetry.
//!
//! Invariants: ending a span never waits. A thread of its own sends, a few spans wait for it, and what comes on top is dropped:
//! a collector that is slow or away costs traces, never a call.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::HeaderMap;
use opentelemetry::{
    KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanKind, Status, TraceContextExt, TracerProvider},
};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig, WithTonicConfig, tonic_types};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter},
};
use tracing::{Level, Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, Registry, filter::filter_fn};

use super::{BoxedLayer, TelemetryError};
use crate::limits;

/// Traces on their way to a collector.
#[derive(Debug)]
pub struct Traces(Option<SdkTracerProvider>);

/// Begins to send to a collector, an `http` or `https` address, which need not be there yet; without one, nothing is traced.
/// Called inside tokio, whose threads the connection lives on.
///
/// # Errors
/// When the system's certificate authorities cannot be read for `https`.
pub fn open(collector: Option<&str>) -> Result<(Traces, Option<BoxedLayer>), TelemetryError> {
    let Some(collector) = collector else { return Ok((Traces(None), None)) };
    let limit = Duration::from_secs(limits::FLUSH_SECONDS);
    let exporter = OtlpExporter::builder().with_tonic().with_endpoint(collector).with_timeout(limit);
    let exporter = if collector.starts_with("https:") {
        exporter.with_tls_config(tonic_types::transport::ClientTlsConfig::new().with_enabled_roots())
    } else {
        exporter
    };
    let exporter = exporter.build().map_err(|error| TelemetryError::Traces(error.to_string()))?;
    let exporter = Telling { exporter, is_away: AtomicBool::new(false) };
    let batches = BatchConfigBuilder::default().with_max_queue_size(limits::QUEUED_SPANS).build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
        .with_resource(
            Resource::builder()
                .with_service_name(env!("CARGO_PKG_NAME"))
                .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
                .build(),
        )
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(env!("CARGO_PKG_NAME")))
        // Nothing here asks OpenTelemetry for the current span.
        .with_context_activation(false)
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(is_traced).with_max_level_hint(Level::DEBUG));
    Ok((Traces(Some(provider)), Some(Layer::<Registry>::boxed(layer))))
}

impl Traces {
    /// Sends what waits, for [`limits::FLUSH_SECONDS`] at most. Blocks.
    pub fn flush(self) {
        let flushed = self.0.map(|provider| provider.shutdown_with_timeout(Duration::from_secs(limits::FLUSH_SECONDS)));
        if let Some(Err(error)) = flushed {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Puts the span of a call under the one that the client's headers name, as W3C's `traceparent` does, if any.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    let parent = TraceContextPropagator::new().extract(&Headers(headers));
    if parent.span().span_context().is_valid() {
        // It fails where nothing is traced.
        let _untraced = span.set_parent(parent);
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// This program's spans, and what went wrong within them: nothing of what sends them, which would have no end.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    let is_ours = metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"));
    is_ours && (metadata.is_span() || *metadata.level() <= Level::WARN)
}

/// Sends spans in the words of OpenTelemetry, and tells the log when that begins or ceases to fail.
#[derive(Debug)]
struct Telling {
    exporter: OtlpExporter,
    is_away: AtomicBool,
}

impl SpanExporter for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(batch.into_iter().map(in_convention).collect()).await;
        let was_away = self.is_away.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !was_away => tracing::warn!(%error, "traces cannot be sent, and are dropped until they can"),
            Ok(()) if was_away => tracing::info!("traces are sent again"),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// A span by OpenTelemetry's conventions for calls: its name, its kind, its status, the keys of its attributes.
fn in_convention(mut span: SpanData) -> SpanData {
    let mut is_call = false;
    for KeyValue { key, value, .. } in &mut span.attributes {
        match key.as_str() {
            "method" => {
                let method = value.as_str().trim_start_matches('/').to_owned();
                span.name = method.clone().into();
                (*key, *value) = ("rpc.method".into(), method.into());
                is_call = true;
            }
            "code" => {
                let code = value.as_str().into_owned();
                if SERVER_FAULTS.contains(&code.as_str()) {
                    span.status = Status::error(code.clone());
                }
                (*key, *value) = ("rpc.response.status_code".into(), code.into());
            }
            "stage" => span.name = value.as_str().into_owned().into(),
            _ => {}
        }
    }
    if is_call {
        span.span_kind = SpanKind::Server;
        span.attributes.push(KeyValue::new("rpc.system.name", "grpc"));
    }
    span
}

/// Codes that are the server's failure and not its client's.
const SERVER_FAULTS: [&str; 6] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

#[cfg(test)]
mod tests {
    use opentelemetry::{
        InstrumentationScope,
        trace::{SpanContext, SpanId},
    };
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

    use super::*;

    fn span(attributes: Vec<KeyValue>) -> SpanData {
        SpanData {
            span_context: SpanContext::empty_context(),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "call".into(),
            start_time: std::time::UNIX_EPOCH,
            end_time: std::time::UNIX_EPOCH,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        }
    }

    #[test]
    fn a_call_fails_where_the_server_is_at_fault() {
        for (code, status) in
            [("OK", Status::Unset), ("NOT_FOUND", Status::Unset), ("INTERNAL", Status::error("INTERNAL"))]
        {
            let span = in_convention(span(vec![KeyValue::new("method", "/a.B/C"), KeyValue::new("code", code)]));
            assert_eq!((&*span.name, span.span_kind, span.status), ("a.B/C", SpanKind::Server, status), "{code}");
        }
    }

    #[test]
    fn a_stage_has_its_own_name_and_is_no_call() {
        let span = in_convention(span(vec![KeyValue::new("stage", "compile")]));
        assert_eq!((&*span.name, span.span_kind), ("compile", SpanKind::Internal));
    }
}
