//! The descriptors of `spec/guest/*.proto`.

use prost_reflect::DescriptorPool;

pub const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/guest");

pub fn pool() -> DescriptorPool {
    let files = protox::compile(["process.proto", "filesystem.proto", "guest.proto"], [DIRECTORY]).unwrap();
    DescriptorPool::from_file_descriptor_set(files).unwrap()
}
