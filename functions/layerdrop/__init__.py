"""The pipeline's Lambda functions: `handlers`, pure logic beside them by noun, AWS calls at the edge."""
