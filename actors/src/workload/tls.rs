//! Mutual TLS between components (`workloads.md` 11.1).

/// Name of the certificate, its Secret and its only DNS name (`workloads.md` 11.1).
pub fn certificate_name(component: &str, cluster: &str, namespace: &str) -> String {
    format!("{component}.{cluster}.{namespace}.multigres.internal")
}

/// Flags with which a component serves gRPC, flag and value apart.
pub fn serve_tls(dir: &str) -> Vec<String> {
    [
        ("--grpc-cert", "tls.crt"),
        ("--grpc-key", "tls.key"),
        ("--grpc-ca", "ca.crt"),
        ("--grpc-server-ca", "ca.crt"),
    ]
    .iter()
    .flat_map(|(flag, file)| [(*flag).to_owned(), format!("{dir}/{file}")])
    .collect()
}

/// Flags with which a component calls poolers.
pub fn call_tls(dir: &str, cluster: &str, namespace: &str) -> Vec<String> {
    let mut args: Vec<String> = [
        ("--multipooler-grpc-cert", "tls.crt"),
        ("--multipooler-grpc-key", "tls.key"),
        ("--multipooler-grpc-ca", "ca.crt"),
    ]
    .iter()
    .flat_map(|(flag, file)| [(*flag).to_owned(), format!("{dir}/{file}")])
    .collect();
    args.push("--multipooler-grpc-server-name".to_owned());
    args.push(certificate_name("multipooler", cluster, namespace));
    args.push("--multipooler-grpc-require-tls".to_owned());
    args
}
