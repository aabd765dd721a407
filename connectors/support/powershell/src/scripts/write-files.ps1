
function Write-Whole {
    param([string]$Path, [byte[]]$Bytes)
    # In the same folder, so that the new file takes the old one's place in one step.
    $staged = "$Path.certdeploy-new"
    try {
        [System.IO.File]::WriteAllBytes($staged, $Bytes)
        if (Test-Path -LiteralPath $Path) {
            [System.IO.File]::Replace($staged, $Path, [NullString]::Value)
        } else {
            [System.IO.File]::Move($staged, $Path)
        }
    } finally {
        if (Test-Path -LiteralPath $staged) { Remove-Item -LiteralPath $staged -Force }
    }
}

function Invoke-Call {
    param($Arguments)
    foreach ($file in @($Arguments.files)) {
        $now = ''
        if (Test-Path -LiteralPath $file.path) { $now = Get-Sha256 ([System.IO.File]::ReadAllBytes($file.path)) }
        $wanted = ''
        if ($null -ne $file.content) { $wanted = Get-Sha256 ([Convert]::FromBase64String($file.content)) }
        if ($null -ne $file.from -and $now -ne $file.from -and $now -ne $wanted) {
            Stop-Call 'conflict' "$($file.path) has changed meanwhile"
        }
    }
    foreach ($file in @($Arguments.files)) {
        if ($null -ne $file.content) {
            Write-Whole $file.path ([Convert]::FromBase64String($file.content))
        } elseif (Test-Path -LiteralPath $file.path) {
            Remove-Item -LiteralPath $file.path -Force
        }
    }
    [ordered]@{ written = @($Arguments.files).Count }
}
