
$answer = [ordered]@{ certdeploy = $Request.nonce; build = [Environment]::OSVersion.Version.Build }
$status = 0
$turn = $null
try {
    Assert-Host
    $turn = Enter-Turn
    $answer['result'] = Invoke-Call $Request.arguments
} catch {
    $cause = $_.Exception.GetBaseException()
    $kind = 'unexpected'
    if ($cause.Data.Contains('kind')) { $kind = $cause.Data['kind'] }
    $answer['error'] = [ordered]@{ kind = $kind; message = $cause.Message; code = '0x{0:X8}' -f $cause.HResult }
    $status = 1
} finally {
    if ($null -ne $turn) { $turn.ReleaseMutex() }
}
Write-Answer $answer
exit $status
