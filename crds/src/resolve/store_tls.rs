//! TLS towards topology stores of the user's. A process has one setting for all stores it talks to, and it speaks TLS only with
//! a client certificate (`topology.md` 1.1).

use super::check::At;
use crate::{CellSpec, ExternalTopoServerSpec, LocalTopoServerSpec};

impl At<'_, '_> {
    /// A CA alone would be ignored, and the connection plain.
    pub(super) fn client_certificate(&mut self, within: &str, external: &ExternalTopoServerSpec) {
        if let (Some(ca), None) = (&external.ca_secret, &external.client_cert_secret) {
            self.add(
                within,
                "caSecret",
                ca,
                "the data plane speaks TLS to etcd only with a client certificate: name clientCertSecret too",
            );
        }
    }

    /// A cell's own store has the Secrets of the global one.
    pub(super) fn same_tls(&mut self, cell: &CellSpec, store: &LocalTopoServerSpec) {
        let global = &cell.global_topo_server;
        if let (Some(_), Some(secret)) = (&store.etcd, &global.client_cert_secret) {
            let remedy = "a managed store speaks no TLS, the global one does, and the data plane has one setting for both: use an external store";
            self.add("localTopoServer", "etcd", secret, remedy);
        }
        let Some(external) = &store.external else {
            return;
        };
        for (field, own, of_global) in [
            ("caSecret", &external.ca_secret, &global.ca_secret),
            (
                "clientCertSecret",
                &external.client_cert_secret,
                &global.client_cert_secret,
            ),
        ] {
            if own != of_global {
                let given = own.as_deref().unwrap_or_default();
                let remedy = "the data plane has one setting of TLS for all topology stores: give the global store the same Secret";
                self.add("localTopoServer.external", field, given, remedy);
            }
        }
    }
}
