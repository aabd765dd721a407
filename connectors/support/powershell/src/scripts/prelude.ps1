param($Request)
$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 2
$ProgressPreference = 'SilentlyContinue'

# Ends the script with an error of a kind that the other side knows.
function Stop-Call {
    param([string]$Kind, [string]$Message)
    $exception = New-Object System.InvalidOperationException $Message
    $exception.Data['kind'] = $Kind
    throw $exception
}

function Assert-Host {
    # WebAdministration works in Windows PowerShell only: version 7 gives objects without methods.
    if ($PSVersionTable['PSEdition'] -eq 'Core') { Stop-Call 'unsupported' 'this is not Windows PowerShell 5.1' }
    if ([Environment]::Is64BitOperatingSystem -and -not [Environment]::Is64BitProcess) {
        Stop-Call 'unsupported' 'this is a 32-bit PowerShell on a 64-bit Windows'
    }
    $user = [System.Security.Principal.WindowsIdentity]::GetCurrent()
    $role = [System.Security.Principal.WindowsBuiltInRole]::Administrator
    if (-not (New-Object System.Security.Principal.WindowsPrincipal $user).IsInRole($role)) {
        Stop-Call 'not_elevated' ('{0} has no rights of an administrator here' -f $user.Name)
    }
}

# One script at a time: an answer that was lost may belong to one that still runs.
function Enter-Turn {
    $mutex = New-Object System.Threading.Mutex $false, 'Global\certdeploy'
    try { $entered = $mutex.WaitOne(15000) } catch [System.Threading.AbandonedMutexException] { $entered = $true }
    if (-not $entered) { Stop-Call 'busy' 'another script of certdeploy is still running' }
    $mutex
}

# In ASCII on one line, so that no code page and no width of a console can change it.
function Write-Answer {
    param($Answer)
    $json = ConvertTo-Json -InputObject $Answer -Compress -Depth 6
    $escape = { param($match) '\u{0:x4}' -f [int][char]$match.Value }
    [Console]::Out.WriteLine([regex]::Replace($json, '[^\x20-\x7e]', $escape))
}

function Assert-Store {
    param([string]$Store)
    if (-not (Test-Path -LiteralPath "Cert:\LocalMachine\$Store")) {
        Stop-Call 'missing' "there is no certificate store LocalMachine\$Store"
    }
}

# The certificate of this thumbprint, or nothing.
function Get-Certificate {
    param([string]$Store, [string]$Thumbprint)
    Get-ChildItem -LiteralPath "Cert:\LocalMachine\$Store" | Where-Object { $_.Thumbprint -eq $Thumbprint }
}

function Get-Sha256 {
    param([byte[]]$Bytes)
    $hash = [System.Security.Cryptography.SHA256]::Create()
    try { [BitConverter]::ToString($hash.ComputeHash($Bytes)).Replace('-', '').ToLowerInvariant() } finally { $hash.Dispose() }
}
