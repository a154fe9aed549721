// Lists, launches, captures, waits and terminates with the official SDK, and prints what it saw as JSON.
// Its services are found by the region's metadata; names below `localhost` are not resolved everywhere, so here they are.

import dns from "node:dns";
import { createRequire } from "node:module";

const lookup = dns.lookup;
dns.lookup = (host, options, done) => lookup(host.endsWith(".localhost") ? "127.0.0.1" : host, options, done);

const require = createRequire(import.meta.url);
const common = require("oci-common");
const core = require("oci-core");
const { IdentityClient } = require("oci-identity");
const { WorkRequestClient } = require("oci-workrequests");

const input = JSON.parse(process.env.STORY);
const authenticationDetailsProvider = new common.ConfigFileAuthenticationDetailsProvider(input.profile);
const quick = {
  terminationStrategy: new common.MaxTimeTerminationStrategy(240),
  delayStrategy: new common.FixedTimeDelayStrategy(1),
};
const compute = new core.ComputeClient({ authenticationDetailsProvider });
const network = new core.VirtualNetworkClient({ authenticationDetailsProvider });
const identity = new IdentityClient({ authenticationDetailsProvider });
const workRequests = new WorkRequestClient({ authenticationDetailsProvider });
const waiters = compute.createWaiters(workRequests, quick);
const compartmentId = input.tenancy;

async function all(records) {
  const found = [];
  for await (const record of records) found.push(record);
  return found;
}

const { items: domains } = await identity.listAvailabilityDomains({ compartmentId });
const subnets = await all(network.listSubnetsRecordIterator({ compartmentId, limit: 1 }));
const images = await all(compute.listImagesRecordIterator({ compartmentId, limit: 1 }));

const launched = await waiters.forLaunchInstance({
  opcRetryToken: "typescript-story",
  launchInstanceDetails: {
    compartmentId,
    availabilityDomain: domains[0].name,
    displayName: "typescript",
    shape: input.shape,
    sourceDetails: { sourceType: "image", imageId: images[0].id },
    createVnicDetails: { subnetId: subnets[0].id },
    freeformTags: { made: "by TypeScript" },
  },
});
const instanceId = launched.response.instance.id;
const running = await waiters.forInstance({ instanceId }, core.models.Instance.LifecycleState.Running);

const captured = await waiters.forCreateImage({
  createImageDetails: { compartmentId, instanceId, displayName: "typescript" },
});
const imageId = captured.response.image.id;
const image = await waiters.forImage({ imageId }, core.models.Image.LifecycleState.Available);
const renamed = await compute.updateImage({
  imageId,
  ifMatch: image.etag,
  updateImageDetails: { displayName: "renamed by TypeScript" },
});
const refusal = await compute.deleteImage({ imageId, ifMatch: image.etag }).catch((error) => error);

const listed = await all(compute.listInstancesRecordIterator({ compartmentId, displayName: "typescript" }));
const terminated = await waiters.forTerminateInstance({ instanceId });
await compute.deleteImage({ imageId });
const deleted = await compute.getImage({ imageId });

console.log(JSON.stringify({
  images: images.map((one) => one.id),
  launching: launched.workRequestResponse.workRequest.status,
  running: running.instance,
  capturing: captured.workRequestResponse.workRequest.status,
  image: image.image,
  renamed: renamed.image.displayName,
  refusal: [refusal.statusCode, refusal.serviceCode],
  listed: listed.map((one) => one.id),
  terminating: terminated.workRequestResponse.workRequest.status,
  deleted: deleted.image.lifecycleState,
}));
