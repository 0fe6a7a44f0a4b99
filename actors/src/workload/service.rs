//! Services.

use crate::labels::Labels;
use crate::shape::{ServicePort, ServiceSpec, TargetPort};

/// A Service port that leads to the container port of the same name.
pub fn service_port(name: &str, number: i32) -> ServicePort<'_> {
    ServicePort {
        target_port: TargetPort::Name(name),
        ..numbered_port(name, number)
    }
}

/// A Service port that leads to the same number.
pub fn numbered_port(name: &str, number: i32) -> ServicePort<'_> {
    ServicePort {
        name,
        port: number,
        target_port: TargetPort::Number(number),
        protocol: "TCP",
    }
}

/// A Service inside the cluster.
pub fn service<'a>(selector: Labels<'a>, ports: Vec<ServicePort<'a>>) -> ServiceSpec<'a> {
    ServiceSpec {
        type_: Some("ClusterIP"),
        selector,
        ports,
        ..ServiceSpec::default()
    }
}

/// A Service that gives each pod a name, ready or not: members must find each other before they are ready.
pub fn headless<'a>(selector: Labels<'a>, ports: Vec<ServicePort<'a>>) -> ServiceSpec<'a> {
    ServiceSpec {
        cluster_ip: Some("None"),
        publish_not_ready_addresses: Some(true),
        selector,
        ports,
        ..ServiceSpec::default()
    }
}
