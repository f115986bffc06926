use std::sync::Arc;
use std::time::Duration;

use connectrpc::{RequestContext, Response, ServiceRequest, ServiceResult};
use tertulia_proto::feed::*;
use tertulia_services::feed::{self, ConsumerId, EVENTS_MAX, Feed, Place, Standing};

use crate::convert;
use crate::error::raise;
use crate::gate::Admission;

pub struct Handler(pub Arc<Feed>);

#[protovalidate_buffa::connect_impl]
impl FeedService for Handler {
    async fn make_consumer(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, MakeConsumerRequest>,
    ) -> ServiceResult<MakeConsumerResponse> {
        let node = Admission::of(&ctx)?.node().await?;
        let request = request.to_owned_message();
        let begin = match request.begin.as_known() {
            Some(Begin::BEGIN_NOW) => feed::Begin::Now,
            _ => feed::Begin::Beginning,
        };
        let made = self.0.make(&node, &request.name, begin).await;
        Response::ok(MakeConsumerResponse {
            consumer: convert::consumer(&made.map_err(raise)?).into(),
            ..Default::default()
        })
    }

    async fn list_consumers(
        &self,
        ctx: RequestContext,
        _: ServiceRequest<'_, ListConsumersRequest>,
    ) -> ServiceResult<ListConsumersResponse> {
        let node = Admission::of(&ctx)?.node().await?;
        let all = self.0.consumers(&node).await.map_err(raise)?;
        Response::ok(ListConsumersResponse {
            consumers: all.iter().map(standing).collect(),
            ..Default::default()
        })
    }

    async fn remove_consumer(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, RemoveConsumerRequest>,
    ) -> ServiceResult<RemoveConsumerResponse> {
        let node = Admission::of(&ctx)?.node().await?;
        let name = request.to_owned_message().name;
        self.0.remove(&node, &name).await.map_err(raise)?;
        Response::ok(RemoveConsumerResponse::default())
    }

    async fn fetch(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, FetchRequest>,
    ) -> ServiceResult<FetchResponse> {
        let node = Admission::of(&ctx)?.node().await?;
        let request = request.to_owned_message();
        let events_max = convert::limit(request.events_max, EVENTS_MAX);
        let wait = Duration::from_millis(request.wait_ms.into());
        let batch = self.0.fetch(&node, &request.name, events_max, wait).await;
        let batch = batch.map_err(raise)?;
        let entries = batch.entries.iter();
        let entries = entries.map(|entry| Entry {
            place: entry.place.0.cast_signed(),
            event: convert::live_event(&entry.event).into(),
            ..Default::default()
        });
        Response::ok(FetchResponse {
            consumer_id: batch.consumer.0,
            epoch: batch.epoch.0,
            entries: entries.collect(),
            ..Default::default()
        })
    }

    async fn acknowledge(
        &self,
        ctx: RequestContext,
        request: ServiceRequest<'_, AcknowledgeRequest>,
    ) -> ServiceResult<AcknowledgeResponse> {
        let node = Admission::of(&ctx)?.node().await?;
        let request = request.to_owned_message();
        let id = ConsumerId(request.consumer_id);
        let place = Place(request.place.cast_unsigned());
        let done = self.0.acknowledge(&node, id, place).await;
        done.map_err(raise)?;
        Response::ok(AcknowledgeResponse::default())
    }
}

fn standing(from: &Standing) -> Consumer {
    Consumer {
        waits_since_ms: from.waits_since_ms.unwrap_or_default(),
        stuck: from.is_stuck,
        ..convert::consumer(&from.consumer)
    }
}
