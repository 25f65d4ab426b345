//! What `/metrics` says, in the text format of Prometheus.
//!
//! The pools tell their numbers when they are asked, by [`Exporter`], to a recorder that is
//! this proxy's alone; the proxy tells its own ones beside them.

use std::sync::{Arc, Mutex, PoisonError};

use metrics::{counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use slabpool::telemetry::Exporter;

use super::{Proxy, Upstream};

/// So many hosts of an upstream have numbers of their own; the others are `other`.
const HOSTS_MAX: usize = 1_000;

/// Bounds of buckets, in seconds.
const BUCKETS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

type Export = Box<dyn FnMut() -> bool + Send>;

/// The numbers of a proxy and of its pools.
pub struct Exposition {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    exports: Mutex<Vec<Export>>,
}

impl Exposition {
    pub fn new(upstreams: &[Arc<Upstream>]) -> Self {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Prefix("slabpool_".to_owned()), &BUCKETS)
            .expect("there are buckets");
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        let exports = with_local_recorder(&recorder, || {
            describe();
            upstreams.iter().map(|upstream| export_of(upstream)).collect()
        });
        Self { recorder, handle, exports: Mutex::new(exports) }
    }

    /// How it is at the moment.
    pub fn render(&self, proxy: &Proxy) -> String {
        let mut exports = self.exports.lock().unwrap_or_else(PoisonError::into_inner);
        with_local_recorder(&self.recorder, || {
            exports.iter_mut().for_each(|export| _ = export());
            tell(proxy);
        });
        self.handle.run_upkeep();
        self.handle.render()
    }
}

fn export_of(upstream: &Upstream) -> Export {
    let names: Vec<_> =
        upstream.hosts.iter().map(|host| (host.key.clone(), host.address.clone())).collect();
    let mut exporter =
        Exporter::managed(upstream.client.pool(), &upstream.name).groups(HOSTS_MAX, move |key| {
            let found = names.iter().find(|(host, _)| host == key);
            found.map_or_else(|| key.to_string(), |(_, address)| address.clone())
        });
    Box::new(move || exporter.export())
}

fn tell(proxy: &Proxy) {
    gauge!("proxy_in_flight").set(proxy.in_flight() as f64);
    gauge!("proxy_uptime_seconds").set(proxy.started.elapsed().as_secs_f64());
    counter!("proxy_turned_away_total").absolute(proxy.turned_away.get());
    for upstream in proxy.upstreams() {
        let name = &upstream.name;
        let tally = &upstream.tally;
        for (metric, count) in [
            ("proxy_requests_total", &tally.requests),
            ("proxy_errors_total", &tally.errors),
            ("proxy_reused_total", &tally.reused),
            ("proxy_repeated_total", &tally.repeated),
            ("proxy_failed_attempts_total", &tally.failed),
        ] {
            counter!(metric, "upstream" => name.clone()).absolute(count.get());
        }
        for host in &upstream.hosts {
            let labels = [("upstream", name.clone()), ("host", host.address.clone())];
            gauge!("proxy_host_up", &labels).set(f64::from(u8::from(host.is_up())));
            gauge!("proxy_host_load", &labels).set(host.load() as f64);
            counter!("proxy_host_requests_total", &labels).absolute(host.requests.get());
            counter!("proxy_host_errors_total", &labels).absolute(host.errors.get());
        }
    }
}

fn describe() {
    describe_gauge!("proxy_in_flight", "Requests under way");
    describe_gauge!("proxy_uptime_seconds", "Since the proxy was started");
    describe_gauge!("proxy_host_up", "1 if the health checks have the host in service");
    describe_gauge!("proxy_host_load", "Requests under way at the host");
    for (name, text) in [
        ("proxy_turned_away_total", "Requests for which there was no room, or no route"),
        ("proxy_requests_total", "Requests for the upstream"),
        ("proxy_errors_total", "Requests answered with an error of the proxy's"),
        ("proxy_reused_total", "Answers over a connection that had been used before"),
        ("proxy_repeated_total", "Requests sent again, because a connection had died"),
        (
            "proxy_failed_attempts_total",
            "Attempts that have failed; most requests went on to another host",
        ),
        ("proxy_host_requests_total", "Requests that the host has answered, or failed to"),
        ("proxy_host_errors_total", "Of these, those that it has not answered, or not to the end"),
    ] {
        describe_counter!(name, text);
    }
}
