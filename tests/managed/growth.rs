//! Connections that are opened before anybody needs them.
