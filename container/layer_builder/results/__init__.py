"""What a build leaves: report, record, bill of materials, objects, a published version."""
