//! The data plane's messages and services, generated from `proto/` (`topology.md` 2 and 3): one module per protobuf package.
//!
//! Records of the topology are decoded with these types and never encoded again: prost drops fields it does not know. To
//! change a record that others write, edit its bytes. Servers and the consensus service exist with the feature `server` only.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::BufferSettings;
use tonic_prost::ProstCodec;

macro_rules! packages {
    ($($(#[$attribute:meta])* $name:ident)*) => {$(
        $(#[$attribute])*
        #[doc = concat!("Package `", stringify!($name), "`.")]
        #[allow(missing_docs, clippy::all, clippy::cast_lossless, reason = "generated")]
        pub mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
        }
    )*};
}

packages! {
    clustermetadata
    multiadmin
    multigatewaymanager
    multigatewaymanagerdata
    multiorch
    multipoolermanager
    multipoolermanagerdata
    multipoolerservice
    serviceinfo
    #[cfg(feature = "server")]
    consensus
    #[cfg(feature = "server")]
    consensusdata
}

/// Largest message in either direction, in bytes: what all servers of the data plane accept and send.
pub const MESSAGE_LIMIT: usize = 16 * 1024 * 1024;

/// Bytes that a call sets aside for each direction. Buffers grow when a message needs it, and a stream keeps its own for as
/// long as it is open: the library's 8 KiB, twice for each pooler that is followed, is more than all their messages.
const BUFFER: usize = 512;
/// Bytes after which a frame is sent though more could follow: the library's default.
const YIELD: usize = 32 * 1024;

/// What the generated clients and servers encode and decode with: protobuf, in small buffers.
#[derive(Clone, Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as tonic::codec::Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as tonic::codec::Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER, YIELD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER, YIELD))
    }
}
