//! The app catalog: what partners publish, and who is subscribed to it.

use http::Method;

use super::{
    Body, COMPARTMENT, LIMIT, Operation, PAGE, SORT_BY, SORT_ORDER, Service, Target, optional,
    required,
};
use crate::app::app_catalog;

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        name: "ListAppCatalogListings",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/appCatalogListings",
        query: &[
            LIMIT,
            PAGE,
            SORT_ORDER,
            optional("publisherName"),
            optional("publisherType"),
            optional("displayName"),
        ],
        body: Body::None,
        permissions: &[("APP_CATALOG_LISTING_INSPECT", Target::Tenancy)],
        handler: handler!(app_catalog::list_listings),
    },
    Operation {
        name: "GetAppCatalogListing",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/appCatalogListings/{listingId}",
        query: &[],
        body: Body::None,
        permissions: &[("APP_CATALOG_LISTING_READ", Target::Tenancy)],
        handler: handler!(app_catalog::get_listing),
    },
    Operation {
        name: "ListAppCatalogListingResourceVersions",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/appCatalogListings/{listingId}/resourceVersions",
        query: &[LIMIT, PAGE, SORT_ORDER],
        body: Body::None,
        permissions: &[("APP_CATALOG_LISTING_INSPECT", Target::Tenancy)],
        handler: handler!(app_catalog::list_versions),
    },
    Operation {
        name: "GetAppCatalogListingResourceVersion",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/appCatalogListings/{listingId}/resourceVersions/{resourceVersion}",
        query: &[],
        body: Body::None,
        permissions: &[("APP_CATALOG_LISTING_READ", Target::Tenancy)],
        handler: handler!(app_catalog::get_version),
    },
    Operation {
        name: "GetAppCatalogListingAgreements",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/appCatalogListings/{listingId}/resourceVersions/{resourceVersion}/agreements",
        query: &[],
        body: Body::None,
        permissions: &[("APP_CATALOG_LISTING_READ", Target::Tenancy)],
        handler: handler!(app_catalog::get_agreements),
    },
    Operation {
        name: "CreateAppCatalogSubscription",
        service: Service::Compute,
        method: Method::POST,
        path: "/20160918/appCatalogSubscriptions",
        query: &[],
        body: Body::Json,
        permissions: &[("APP_CATALOG_LISTING_SUBSCRIBE", Target::Body("compartmentId"))],
        handler: handler!(app_catalog::create_subscription),
    },
    Operation {
        name: "ListAppCatalogSubscriptions",
        service: Service::Compute,
        method: Method::GET,
        path: "/20160918/appCatalogSubscriptions",
        query: &[COMPARTMENT, LIMIT, PAGE, SORT_BY, SORT_ORDER, optional("listingId")],
        body: Body::None,
        permissions: &[("APP_CATALOG_LISTING_INSPECT", Target::Query("compartmentId"))],
        handler: handler!(app_catalog::list_subscriptions),
    },
    Operation {
        name: "DeleteAppCatalogSubscription",
        service: Service::Compute,
        method: Method::DELETE,
        path: "/20160918/appCatalogSubscriptions",
        query: &[required("listingId"), COMPARTMENT, required("resourceVersion")],
        body: Body::None,
        permissions: &[("APP_CATALOG_LISTING_SUBSCRIBE", Target::Query("compartmentId"))],
        handler: handler!(app_catalog::delete_subscription),
    },
];
