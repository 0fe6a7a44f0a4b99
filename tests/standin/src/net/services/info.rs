//! What every binary serves: build information and the health service.

use std::future::{Ready, ready};

use actors::proto::serviceinfo::{
    BuildInfo, GetBuildInfoRequest, GetBuildInfoResponse, service_info_server::ServiceInfo,
};
use tonic::{Request, Response, Status, server::Grpc, server::UnaryService};
use tonic_prost::ProstCodec;

pub(super) struct Info;

#[tonic::async_trait]
impl ServiceInfo for Info {
    async fn get_build_info(
        &self,
        _: Request<GetBuildInfoRequest>,
    ) -> Result<Response<GetBuildInfoResponse>, Status> {
        Ok(Response::new(GetBuildInfoResponse {
            build_info: Some(BuildInfo {
                revision: "stand-in".to_owned(),
                main_path: "stand-in".to_owned(),
                ..BuildInfo::default()
            }),
        }))
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    /// 1 is SERVING.
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `Check` of `grpc.health.v1.Health`: SERVING from the start, as real servers say.
struct Check;

impl UnaryService<HealthCheckRequest> for Check {
    type Response = HealthCheckResponse;
    type Future = Ready<Result<Response<HealthCheckResponse>, Status>>;

    fn call(&mut self, _: Request<HealthCheckRequest>) -> Self::Future {
        ready(Ok(Response::new(HealthCheckResponse { status: 1 })))
    }
}

pub(super) async fn health(request: super::Request) -> super::Response {
    if !request.uri().path().ends_with("/Check") {
        return super::refuse(&Status::unimplemented("only Check is played"));
    }
    Grpc::new(ProstCodec::default()).unary(Check, request).await
}
