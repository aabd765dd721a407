
function Invoke-Call {
    param($Arguments)
    $files = @($Arguments.paths | ForEach-Object {
        $folder = Split-Path -Parent $_
        if (-not (Test-Path -LiteralPath $folder -PathType Container)) { Stop-Call 'missing' "there is no folder $folder" }
        $content = $null
        if (Test-Path -LiteralPath $_ -PathType Leaf) { $content = [Convert]::ToBase64String([System.IO.File]::ReadAllBytes($_)) }
        [ordered]@{ path = $_; content = $content }
    })
    [ordered]@{ files = $files }
}
