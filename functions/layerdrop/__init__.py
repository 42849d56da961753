"""The pipeline's Lambda functions: one handler a function, pure logic beside them, AWS calls at the edge."""
