//! Mutual TLS between components (`workloads.md` 11.1).

use crate::shape::Text;

/// Name of the certificate, its Secret and its only DNS name (`workloads.md` 11.1).
pub fn certificate_name(component: &str, cluster: &str, namespace: &str) -> String {
    format!("{component}.{cluster}.{namespace}.multigres.internal")
}

/// Flags with which a component serves gRPC, flag and value apart.
pub fn serve_tls(dir: &str) -> Vec<Text<'static>> {
    [
        ("--grpc-cert", "tls.crt"),
        ("--grpc-key", "tls.key"),
        ("--grpc-ca", "ca.crt"),
        ("--grpc-server-ca", "ca.crt"),
    ]
    .iter()
    .flat_map(|(flag, file)| [Text::from(*flag), format!("{dir}/{file}").into()])
    .collect()
}

/// Flags with which a component calls poolers.
pub fn call_tls(dir: &str, cluster: &str, namespace: &str) -> Vec<Text<'static>> {
    let mut args: Vec<Text<'static>> = [
        ("--multipooler-grpc-cert", "tls.crt"),
        ("--multipooler-grpc-key", "tls.key"),
        ("--multipooler-grpc-ca", "ca.crt"),
    ]
    .iter()
    .flat_map(|(flag, file)| [Text::from(*flag), format!("{dir}/{file}").into()])
    .collect();
    args.push("--multipooler-grpc-server-name".into());
    args.push(certificate_name("multipooler", cluster, namespace).into());
    args.push("--multipooler-grpc-require-tls".into());
    args
}
