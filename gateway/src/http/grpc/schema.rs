//! The schema of gRPC, as `build.rs` has compiled it from `proto/nakama.proto` and `proto/health.proto`.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MessageDescriptor, ServiceDescriptor};

use super::methods::Method;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let compiled = include_bytes!(concat!(env!("OUT_DIR"), "/schema.bin"));
    DescriptorPool::decode(compiled.as_slice()).expect("the schema was compiled for this program")
});

static SERVICE: LazyLock<ServiceDescriptor> =
    LazyLock::new(|| POOL.get_service_by_name("nakama.api.Nakama").expect("the schema has the service"));

/// The messages of a method: what it takes and what it gives.
pub fn messages_of(method: &Method) -> (MessageDescriptor, MessageDescriptor) {
    let described = SERVICE.methods().find(|described| described.name() == method.name);
    let described = described.expect("a test looks for every method of the table in the schema");
    (described.input(), described.output())
}

/// The messages of gRPC's check of health.
pub fn health_messages() -> (MessageDescriptor, MessageDescriptor) {
    let of = |name| POOL.get_message_by_name(name).expect("the schema has gRPC's service of health");
    (of("grpc.health.v1.HealthCheckRequest"), of("grpc.health.v1.HealthCheckResponse"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::grpc::methods::METHODS;

    #[test]
    fn the_schema_has_the_methods_of_the_table_and_no_others() {
        let described: Vec<_> = SERVICE.methods().map(|method| method.name().to_owned()).collect();
        let named: Vec<_> = METHODS.iter().map(|method| method.name).collect();
        assert_eq!(described, named);
        assert!(METHODS.iter().all(|method| messages_of(method).0.full_name().contains('.')));
        health_messages();
    }
}
