//! Upgraded connections: bytes both ways, until somebody closes or the user may no longer be here.

use http::Response;
use hyper_util::rt::TokioIo;

use crate::forward::Ends;

/// Starts copying between the two ends that `response` left behind, until `ended` resolves.
pub(crate) fn connect<B>(
    response: &mut Response<B>,
    ended: impl Future<Output = ()> + Send + 'static,
    open: prometheus_client::metrics::gauge::Gauge,
) {
    let Some(Ends { client, workload }) = response.extensions_mut().remove::<Ends>() else {
        return;
    };
    tokio::spawn(async move {
        let (client, workload) = match tokio::try_join!(client, workload) {
            Ok(ends) => ends,
            Err(error) => {
                tracing::debug!(%error, "an upgrade broke off");
                return;
            }
        };
        open.inc();
        let (mut client, mut workload) = (TokioIo::new(client), TokioIo::new(workload));
        tokio::select! {
            result = tokio::io::copy_bidirectional(&mut client, &mut workload) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "an upgraded connection broke off");
                }
            }
            () = ended => tracing::info!("closed an upgraded connection whose user may no longer be here"),
        }
        open.dec();
    });
}
