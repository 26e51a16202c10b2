//! What the tests of sqlx ask of a library of this name: connections to `DATABASE_URL`, and tests for one type each.

use sqlx::pool::{Pool, PoolOptions};
use sqlx::{Connection, Database};

// For the macros.
pub use {anyhow, paste, sqlx, sqlx_macros};

// More than the connections that pgweir has to the server in the comparison.
const POOL_SIZE: u32 = 6;

/// Nothing is: the environment is complete.
pub fn setup_if_needed() {}

/// A connection of its own.
pub async fn new<DB: Database>() -> anyhow::Result<DB::Connection> {
    Ok(DB::Connection::connect(&std::env::var("DATABASE_URL")?).await?)
}

/// sqlx's own pool.
pub async fn pool<DB: Database>() -> anyhow::Result<Pool<DB>> {
    let options = PoolOptions::new()
        .max_connections(POOL_SIZE)
        .test_before_acquire(true);
    Ok(options.connect(&std::env::var("DATABASE_URL")?).await?)
}

/// A type is read from a prepared statement's answer, is read from a simple query's, and comes back as it was sent.
#[macro_export]
macro_rules! test_type {
    ($name:ident($database:ident, $($cases:tt)*)) => {
        $crate::test_type!($name<$name>($database, $($cases)*));
    };
    // How the server would compare them; here they are compared as Rust's values.
    ($name:ident<$type:ty>($database:ident, $comparison:literal, $($cases:tt)*)) => {
        $crate::test_type!($name<$type>($database, $($cases)*));
    };
    ($name:ident<$type:ty>($database:ident, $($text:literal $(==)? $(~=)? $(@=)? $value:expr),+ $(,)?)) => {
        $crate::test_prepared_type!($name<$type>($database, $($text == $value),+));
        $crate::test_unprepared_type!($name<$type>($database, $($text == $value),+));
    };
}

/// A type that cannot be sent.
#[macro_export]
macro_rules! test_decode_type {
    ($name:ident<$type:ty>($database:ident, $($text:literal $(==)? $(~=)? $(@=)? $value:expr),+ $(,)?)) => {
        $crate::paste::paste! {
            #[$crate::sqlx_macros::test]
            async fn [<test_prepared_decode_type_ $name>]() -> $crate::anyhow::Result<()> {
                use $crate::sqlx::{Executor, Row};
                let mut connection = $crate::new::<$database>().await?;
                $(
                    let row = connection.fetch_one($crate::sqlx::query(concat!("SELECT ", $text))).await?;
                    assert_eq!($value, row.try_get::<$type, _>(0)?);
                )+
                Ok(())
            }
        }
        $crate::test_unprepared_type!($name<$type>($database, $($text == $value),+));
    };
}

/// A type that is sent and read in binary form only.
#[macro_export]
macro_rules! test_prepared_type {
    ($name:ident<$type:ty>($database:ident, $($text:literal $(==)? $(~=)? $(@=)? $value:expr),+ $(,)?)) => {
        $crate::paste::paste! {
            #[$crate::sqlx_macros::test]
            async fn [<test_prepared_type_ $name>]() -> $crate::anyhow::Result<()> {
                use $crate::sqlx::{Executor, Row};
                let mut connection = $crate::new::<$database>().await?;
                $(
                    let query = $crate::sqlx::query(concat!("SELECT ", $text, ", $1")).bind($value);
                    let row = connection.fetch_one(query).await?;
                    assert_eq!($value, row.try_get::<$type, _>(0)?);
                    assert_eq!($value, row.try_get::<$type, _>(1)?);
                )+
                Ok(())
            }
        }
    };
}

/// A type that is read as text.
#[macro_export]
macro_rules! test_unprepared_type {
    ($name:ident<$type:ty>($database:ident, $($text:literal $(==)? $(~=)? $(@=)? $value:expr),+ $(,)?)) => {
        $crate::paste::paste! {
            #[$crate::sqlx_macros::test]
            async fn [<test_unprepared_type_ $name>]() -> $crate::anyhow::Result<()> {
                use $crate::sqlx::{Executor, Row};
                let mut connection = $crate::new::<$database>().await?;
                $(
                    let row = connection.fetch_one(concat!("SELECT ", $text)).await?;
                    assert_eq!($value, row.try_get::<$type, _>(0)?);
                )+
                Ok(())
            }
        }
    };
}
