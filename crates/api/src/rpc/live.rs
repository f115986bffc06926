use std::sync::Arc;

use connectrpc::{InboundStream, RequestContext, Response, ServiceResult, ServiceStream};
use tertulia_proto::live::{ConnectRequest, ConnectResponse, LiveService};

use crate::live::{Live, stream};

pub struct Handler(pub Arc<Live>);

impl LiveService for Handler {
    async fn connect(
        &self,
        _ctx: RequestContext,
        requests: InboundStream<ConnectRequest>,
    ) -> ServiceResult<ServiceStream<ConnectResponse>> {
        Response::stream_ok(stream::serve(Arc::clone(&self.0), requests))
    }
}
