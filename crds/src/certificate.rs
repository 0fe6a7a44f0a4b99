//! Who signs the certificates that a cluster asks cert-manager for, and in whose name.

use std::collections::BTreeMap;

/// Issuer and subject of all certificates. The defaults are those of clusters that exist already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuance {
    /// Kind of the issuer: ClusterIssuer (default), Issuer, or one of another group.
    pub kind: String,
    /// Its name; default `supabase-issuer`.
    pub name: String,
    /// Its API group; default `cert-manager.io`.
    pub group: String,
    /// The subject without its common name, as in RFC 4514.
    pub subject: String,
}

impl Default for Issuance {
    fn default() -> Self {
        Self::from_environment(&BTreeMap::new())
    }
}

impl Issuance {
    /// The defaults with the operator's variables over them: `MULTIGRES_CERTIFICATE_ISSUER_KIND`, `…_ISSUER_NAME`,
    /// `…_ISSUER_GROUP`, `…_SUBJECT`.
    pub fn from_environment(variables: &BTreeMap<String, String>) -> Self {
        let given = |suffix: &str, default: &str| {
            variables
                .get(&format!("MULTIGRES_CERTIFICATE_{suffix}"))
                .map(|value| value.trim())
                .filter(|value| !value.is_empty())
                .unwrap_or(default)
                .to_owned()
        };
        Self {
            kind: given("ISSUER_KIND", "ClusterIssuer"),
            name: given("ISSUER_NAME", "supabase-issuer"),
            group: given("ISSUER_GROUP", "cert-manager.io"),
            // The spelling is that of certificates that exist already.
            subject: given("SUBJECT", "C=US, ST=Delware, L=New Castle,O=Supabase Inc"),
        }
    }
}
