//go:build tools

package tools

import (
	_ "github.com/minio/minio"
	_ "github.com/temporalio/cli/cmd/temporal"
)
