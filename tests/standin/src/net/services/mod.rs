//! gRPC services: which one a path belongs to, and the answers.

mod admin;
mod feed;
mod health;
mod info;
mod manager;
mod orch;

use std::sync::Arc;

use actors::proto::{
    MESSAGE_LIMIT, multiadmin::multiadmin_service_server::MultiadminServiceServer,
    multiorch::multiorch_service_server::MultiorchServiceServer,
    multipoolermanager::multipooler_manager_server::MultipoolerManagerServer,
    multipoolerservice::multipooler_service_server::MultipoolerServiceServer,
    serviceinfo::service_info_server::ServiceInfoServer,
};
use tonic::codegen::Service;

use super::{
    admin::Admin,
    orch::Orch,
    pooler::Pooler,
    server::{Request, Response},
};
use crate::shard::Refusal;

async fn call<S>(mut service: S, request: Request) -> Response
where
    S: Service<Request, Response = Response, Error = std::convert::Infallible>,
{
    match service.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn service(path: &str) -> &str {
    path.trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or_default()
}

/// Answers with a status and no body.
fn refuse(status: &tonic::Status) -> Response {
    status.clone().into_http()
}

/// What every component serves.
async fn common(path: &str, request: Request) -> Response {
    match service(path) {
        "serviceinfo.ServiceInfo" => call(ServiceInfoServer::new(info::Info), request).await,
        "grpc.health.v1.Health" => info::health(request).await,
        _ => refuse(&tonic::Status::unimplemented("no such service")),
    }
}

pub(super) async fn pooler(pooler: Arc<Pooler>, path: &str, request: Request) -> Response {
    match service(path) {
        "multipoolermanager.MultipoolerManager" => {
            let server = MultipoolerManagerServer::new(manager::Manager(pooler))
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(MESSAGE_LIMIT);
            call(server, request).await
        }
        "multipoolerservice.MultipoolerService" => {
            call(MultipoolerServiceServer::new(feed::Feed(pooler)), request).await
        }
        _ => common(path, request).await,
    }
}

pub(super) async fn orch(orch: Arc<Orch>, path: &str, request: Request) -> Response {
    match service(path) {
        "multiorch.MultiorchService" => {
            call(MultiorchServiceServer::new(orch::Service(orch)), request).await
        }
        _ => common(path, request).await,
    }
}

pub(super) async fn gateway(path: &str, request: Request) -> Response {
    common(path, request).await
}

pub(super) async fn admin(admin: Arc<Admin>, path: &str, request: Request) -> Response {
    match service(path) {
        "multiadmin.MultiadminService" => {
            let server = MultiadminServiceServer::new(admin::Service(admin))
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(MESSAGE_LIMIT);
            call(server, request).await
        }
        _ => common(path, request).await,
    }
}

/// What a refusal of the model is in gRPC.
fn refused(refusal: Refusal) -> tonic::Status {
    match refusal {
        Refusal::InvalidArgument(text) => tonic::Status::invalid_argument(text),
        Refusal::FailedPrecondition(text) => tonic::Status::failed_precondition(text),
        Refusal::Internal(text) => tonic::Status::internal(text),
    }
}

fn unimplemented<T>() -> Result<T, tonic::Status> {
    Err(tonic::Status::unimplemented("not played by the stand-in"))
}
