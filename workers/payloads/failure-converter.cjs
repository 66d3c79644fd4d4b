// Messages and stack traces of failures as payloads, so that the codec encrypts them. The SDK requires it by its path,
// and workflow bundles hold it, so it is CommonJS as it stands.
const { DefaultFailureConverter } = require('@temporalio/common');

exports.failureConverter = new DefaultFailureConverter({ encodeCommonAttributes: true });
